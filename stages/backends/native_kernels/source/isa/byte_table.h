// Tables of 256 bytes on AVX-512 without VBMI.
#pragma once

namespace {

// A shuffle for each value of the upper four bits.
struct Table {
    Int parts[16];
    explicit Table(const uint8_t *table) {
        for (int k = 0; k < 16; k++) parts[k] = _mm512_broadcast_i32x4(load_sixteen(table + 16 * k));
    }
    Int at(Int levels) const {
        const Int low = _mm512_set1_epi8(0x0F), index = _mm512_and_si512(levels, low), upper = _mm512_andnot_si512(low, levels);
        Int found = _mm512_setzero_si512();
        for (int k = 0; k < 16; k++)
            found = _mm512_mask_shuffle_epi8(found, _mm512_cmpeq_epi8_mask(upper, _mm512_set1_epi8(int8_t(16 * k))), parts[k], index);
        return found;
    }
};

}  // namespace
