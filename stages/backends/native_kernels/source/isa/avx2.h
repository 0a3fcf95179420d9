// AVX2 without VNNI. `maddubs` adds two products of a level and a weight in int16, which saturates: 255·127·2 is
// 64770. So levels and weights are split into even and odd ones of 16 bits, whose products `madd` adds up in int32:
// at most 2·255·128 in size, it never saturates. See README.md for what else was measured.
#pragma once
#include "avx2_registers.h"

namespace {

struct Split {
    __m256i even, odd;
};
inline Split split_levels(__m256i x) { return {_mm256_and_si256(x, _mm256_set1_epi16(0xFF)), _mm256_srli_epi16(x, 8)}; }
inline Split split_weights(__m256i w) { return {_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)}; }
inline __m256i dot_split(__m256i sum, Split x, Split w) {
    return _mm256_add_epi32(_mm256_add_epi32(sum, _mm256_madd_epi16(x.even, w.even)), _mm256_madd_epi16(x.odd, w.odd));
}

using Four = Split;
struct Weights {
    Split low, high;
};

inline Four four(const uint8_t *p) {
    int32_t value;
    std::memcpy(&value, p, 4);
    return split_levels(_mm256_set1_epi32(value));
}
inline Weights as_weights(Int w) { return {split_weights(w.low), split_weights(w.high)}; }
inline Weights load_weights(const void *p) { return as_weights(load(p)); }
inline Int dot(Int sum, Four x, Weights w) { return {dot_split(sum.low, x, w.low), dot_split(sum.high, x, w.high)}; }
inline Int dot_each(Int sum, Int x, Weights w) {
    return {dot_split(sum.low, split_levels(x.low), w.low), dot_split(sum.high, split_levels(x.high), w.high)};
}
inline Int sum_fours(Int sum, Int weights) { return dot_each(sum, fill(1), as_weights(weights)); }

// Weights of 4 bits, 0..15, saturate nowhere: two products are 2·255·15 at most, and four of those fit int16.
struct Nibbles {
    Int low, high;
};
inline Nibbles load_nibbles(const void *p) {
    const Int both = load(p);
    const __m256i ones = _mm256_set1_epi8(15);
    const auto low = [&](__m256i w) { return _mm256_and_si256(w, ones); };
    const auto high = [&](__m256i w) { return low(_mm256_srli_epi16(w, 4)); };
    return {both_halves(both, low), both_halves(both, high)};
}
inline Int dot_nibbles(Int sum, const uint8_t *p, const Nibbles &w) {
    int32_t dwords[2];
    std::memcpy(dwords, p, 8);
    const __m256i x = _mm256_set1_epi32(dwords[0]), y = _mm256_set1_epi32(dwords[1]), one = _mm256_set1_epi16(1);
    const auto added = [&](__m256i sum, __m256i low, __m256i high) {
        return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_add_epi16(_mm256_maddubs_epi16(x, low), _mm256_maddubs_epi16(y, high)), one));
    };
    return {added(sum.low, w.low.low, w.high.low), added(sum.high, w.low.high, w.high.high)};
}

struct Half {
    using Register = __m256i;
    using Taps = Split;
    static Register dot(Register sum, Register x, Taps w) { return dot_split(sum, split_levels(x), w); }
    static Taps taps(const void *p) { return split_weights(load_register(p)); }
};

// Which of eight a mask has, in turn.
struct Orders {
    alignas(8) uint8_t of[256][8] = {};
    Orders() {
        for (int mask = 0; mask < 256; mask++)
            for (int bit = 0, next = 0; bit < 8; bit++)
                if (mask >> bit & 1) of[mask][next++] = uint8_t(bit);
    }
};
const Orders ORDERS;

// Products of two levels and weights of 16 bits, which need no widening any more.
struct Twos {
    static constexpr bool NIBBLES = false;
    using Held = Int;
    static Held load(const void *p) { return ::load(p); }
    static __m256i levels(const uint8_t *p) {
        int32_t value;
        std::memcpy(&value, p, 4);
        return _mm256_set1_epi32(value);
    }
    static Int add(Int sum, __m256i x, Held w) {
        return {_mm256_add_epi32(sum.low, _mm256_madd_epi16(x, w.low)), _mm256_add_epi32(sum.high, _mm256_madd_epi16(x, w.high))};
    }
    // `count` levels, and up to 31 more.
    static void widen(const uint8_t *levels, uint8_t *wide, int64_t count) {
        for (int64_t i = 0; i < count; i += 16) store_register(wide + 2 * i, _mm256_cvtepu8_epi16(load_sixteen(levels + i)));
    }
};

// What `panel.h` needs: products of 7-bit levels, two of which int16 holds.
struct Pairs {
    using Register = __m256i;
    static Register four(const void *p) {
        int32_t value;
        std::memcpy(&value, p, 4);
        return _mm256_set1_epi32(value);
    }
    static void opaque(Register &x) { __asm__ volatile("" : "+x"(x)); }
    static Int pairs(Register x, Int w) { return {_mm256_maddubs_epi16(x, w.low), _mm256_maddubs_epi16(x, w.high)}; }
    static Int add_pairs(Int a, Int b) { return {_mm256_add_epi16(a.low, b.low), _mm256_add_epi16(a.high, b.high)}; }
    static Int add_scaled(Int sum, Int pairs, int scale) {
        const __m256i scales = _mm256_set1_epi16(int16_t(scale));
        return {_mm256_add_epi32(sum.low, _mm256_madd_epi16(pairs.low, scales)), _mm256_add_epi32(sum.high, _mm256_madd_epi16(pairs.high, scales))};
    }
    static Int add_widened(Int sum, Int pairs) { return add_scaled(sum, pairs, 1); }
    // 32 levels.
    static Register load(const void *p) { return load_register(p); }
    static Register shifted(Register x, int offset) { return _mm256_sub_epi8(x, _mm256_set1_epi8(int8_t(offset))); }
    static Register low_bits(Register x) { return _mm256_and_si256(x, _mm256_set1_epi8(127)); }
    // Of the first `count` bytes.
    static Register top_bits(Register x, int count) {
        alignas(32) static const uint8_t ends[64] = {128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128,
                                                     128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128, 128};
        return _mm256_and_si256(x, load_register(ends + std::max(32 - count, 0)));
    }
    static bool any(Register a, Register b, Register c, Register d) {
        const __m256i all = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
        return !_mm256_testz_si256(all, all);
    }
    static Register both(Register a, Register b) { return _mm256_and_si256(a, b); }
    static Register only(Register a, Register b) { return _mm256_andnot_si256(b, a); }  // in a, not in b
    // The dwords of top bits that are not 0, as bytes of 1, and their numbers from `first` on; writes eight, and says
    // how many count.
    static int compress(Register top, int32_t first, int32_t *numbers, uint32_t *bytes) {
        const int zero = _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(top, _mm256_setzero_si256()))), found = zero ^ 255;
        const __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(ORDERS.of[found])));
        store_register(numbers, _mm256_add_epi32(order, _mm256_set1_epi32(first)));
        store_register(bytes, _mm256_permutevar8x32_epi32(_mm256_srli_epi16(top, 7), order));
        return __builtin_popcount(found);
    }
    // Eight dwords of four pixels each, dword by dword.
    static void store_dwords(uint8_t *to, const Register *x) {
        const __m256i ab_low = _mm256_unpacklo_epi32(x[0], x[1]), ab_high = _mm256_unpackhi_epi32(x[0], x[1]);
        const __m256i cd_low = _mm256_unpacklo_epi32(x[2], x[3]), cd_high = _mm256_unpackhi_epi32(x[2], x[3]);
        const __m256i each[4] = {_mm256_unpacklo_epi64(ab_low, cd_low), _mm256_unpackhi_epi64(ab_low, cd_low),
                                 _mm256_unpacklo_epi64(ab_high, cd_high), _mm256_unpackhi_epi64(ab_high, cd_high)};
        for (int i = 0; i < 4; i++) {  // dwords i and 4 + i
            store_sixteen(to + 16 * i, _mm256_castsi256_si128(each[i]));
            store_sixteen(to + 64 + 16 * i, _mm256_extracti128_si256(each[i], 1));
        }
    }
};

}  // namespace

#include "half.h"
#include "wide_table.h"
