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
inline Weights weights_of(Int w) { return {split_weights(w.low), split_weights(w.high)}; }
inline Weights load_weights(const void *p) { return weights_of(load(p)); }
inline Int dot(Int sum, Four x, Weights w) { return {dot_split(sum.low, x, w.low), dot_split(sum.high, x, w.high)}; }
inline Int dot_each(Int sum, Int x, Weights w) {
    return {dot_split(sum.low, split_levels(x.low), w.low), dot_split(sum.high, split_levels(x.high), w.high)};
}
inline Int sum_fours(Int sum, Int weights) { return dot_each(sum, fill(1), weights_of(weights)); }

struct Half {
    using Register = __m256i;
    using Taps = Split;
    static Register dot(Register sum, Register x, Taps w) { return dot_split(sum, split_levels(x), w); }
    static Taps taps(const void *p) { return split_weights(load_register(p)); }
};

}  // namespace

#include "half.h"
