// A table of 256 int32, where an instruction set has nothing better than to gather.
#pragma once

namespace {

struct WideTable {
    const int32_t *table;
    explicit WideTable(const int32_t *of) : table(of) {}
    void at(Int levels, Int *found) const {
        const Int zero = fill(0), low = zip8_low(levels, zero), high = zip8_high(levels, zero);
        found[0] = gather(table, zip16_low(low, zero)), found[1] = gather(table, zip16_high(low, zero));
        found[2] = gather(table, zip16_low(high, zero)), found[3] = gather(table, zip16_high(high, zero));
    }
};

}  // namespace
