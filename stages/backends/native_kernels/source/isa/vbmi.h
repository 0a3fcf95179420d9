// Tables of 256 entries with AVX-512 VBMI, which looks up 64 bytes in 128.
#pragma once

namespace {

struct Table {
    Int parts[4];
    explicit Table(const uint8_t *table) {
        for (int k = 0; k < 4; k++) parts[k] = load(table + 64 * k);
    }
    Int at(Int levels) const {
        const Int low = _mm512_permutex2var_epi8(parts[0], levels, parts[1]), high = _mm512_permutex2var_epi8(parts[2], levels, parts[3]);
        return _mm512_mask_blend_epi8(_mm512_movepi8_mask(levels), low, high);
    }
};

// Of int32: a table for each of their bytes.
struct WideTable {
    alignas(64) uint8_t bytes[4][256];
    explicit WideTable(const int32_t *table) {
        for (int i = 0; i < 256; i++)
            for (int b = 0; b < 4; b++) bytes[b][i] = uint8_t(uint32_t(table[i]) >> (8 * b));
    }
    void at(Int levels, Int *found) const {
        Int of[4];
        for (int b = 0; b < 4; b++) of[b] = Table(bytes[b]).at(levels);
        const Int low[2] = {zip8_low(of[0], of[1]), zip8_low(of[2], of[3])}, high[2] = {zip8_high(of[0], of[1]), zip8_high(of[2], of[3])};
        found[0] = zip16_low(low[0], low[1]), found[1] = zip16_high(low[0], low[1]);
        found[2] = zip16_low(high[0], high[1]), found[3] = zip16_high(high[0], high[1]);
    }
};

}  // namespace
