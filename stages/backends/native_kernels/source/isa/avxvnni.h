// AVX2's registers with VNNI: AVX-VNNI's encoding of `vpdpbusd`, or that of CPUs with AVX-512.
#pragma once
#include "avx2_registers.h"

namespace {

inline __m256i dot_register(__m256i sum, __m256i x, __m256i w) {
#ifdef __AVXVNNI__
    return _mm256_dpbusd_avx_epi32(sum, x, w);
#else
    return _mm256_dpbusd_epi32(sum, x, w);
#endif
}

using Four = __m256i;
using Weights = Int;

inline Four four(const uint8_t *p) {
    int32_t value;
    std::memcpy(&value, p, 4);
    return _mm256_set1_epi32(value);
}
inline Weights load_weights(const void *p) { return load(p); }
inline Weights as_weights(Int x) { return x; }
inline Int dot(Int sum, Four x, Weights w) { return {dot_register(sum.low, x, w.low), dot_register(sum.high, x, w.high)}; }
inline Int dot_each(Int sum, Int x, Weights w) { return {dot_register(sum.low, x.low, w.low), dot_register(sum.high, x.high, w.high)}; }
inline __m256i low_nibbles(__m256i w) { return _mm256_and_si256(w, _mm256_set1_epi8(15)); }
inline Weights low_nibbles(Int w) { return {low_nibbles(w.low), low_nibbles(w.high)}; }
inline Weights high_nibbles(Int w) { return {low_nibbles(_mm256_srli_epi16(w.low, 4)), low_nibbles(_mm256_srli_epi16(w.high, 4))}; }
inline Int sum_fours(Int sum, Int weights) { return dot_each(sum, fill(1), weights); }

struct Half {
    using Register = __m256i;
    using Taps = __m256i;
    static Register dot(Register sum, Register x, Taps w) { return dot_register(sum, x, w); }
    static Taps taps(const void *p) { return load_register(p); }
};

// Products of four saturate nowhere: no panels are needed.
using Pairs = void;
using Twos = void;

}  // namespace

#include "half.h"
#include "wide_table.h"
#include "nibbles.h"
