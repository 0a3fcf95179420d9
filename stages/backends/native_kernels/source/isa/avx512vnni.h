// AVX-512 with VNNI, and with VBMI where compilers say so: 64 bytes are one register. isa/README.md says what each
// primitive gives.
#pragma once
#include <immintrin.h>
#include <cstdint>
#include <cstring>

namespace {

using Int = __m512i;
using Float = __m512;
using Long = __m512i;
using Sixteen = __m128i;
using Mask = __mmask16;
using Four = __m512i;
using Weights = __m512i;

constexpr int DOT_OFFSET = 0;
constexpr int MOST_VECTORS = 4;
// Tiles hold at most 24 accumulators: more leave no registers for the operands. With one vector smaller ones are
// faster, whose last steps overlap with the next tile's products.
constexpr int most_pixels(int vectors) { return vectors == 1 ? 8 : vectors == 2 ? 12 : 6; }

inline void relax() { _mm_pause(); }

// Memory.
inline Int load(const void *p) { return _mm512_loadu_si512(p); }
inline void store(void *p, Int x) { _mm512_storeu_si512(p, x); }
inline __mmask64 first_bytes(int64_t count) { return count >= 64 ? ~__mmask64(0) : (__mmask64(1) << count) - 1; }
inline Int load_first(const void *p, int64_t count) { return _mm512_maskz_loadu_epi8(first_bytes(count), p); }
inline Int load_some(const void *p, int64_t count) { return load_first(p, count); }
inline void store_first(void *p, Int x, int64_t count) { _mm512_mask_storeu_epi8(p, first_bytes(count), x); }
inline Sixteen load_sixteen(const void *p) { return _mm_loadu_si128(static_cast<const Sixteen *>(p)); }
inline void store_sixteen(void *p, Sixteen x) { _mm_storeu_si128(static_cast<Sixteen *>(p), x); }
inline __mmask16 first_of(int count) { return count >= 16 ? 0xFFFF : (1u << count) - 1; }
inline Sixteen load_sixteen_first(const void *p, int count) { return _mm_maskz_loadu_epi8(first_of(count), p); }
inline void store_sixteen_first(void *p, Sixteen x, int count) { _mm_mask_storeu_epi8(p, first_of(count), x); }
inline Float load_floats(const float *p) { return _mm512_loadu_ps(p); }
inline Float load_floats_first(const float *p, int count) { return _mm512_maskz_loadu_ps(first_of(count), p); }
inline Long load_longs(const int64_t *p) { return _mm512_loadu_si512(p); }
template <int PART>
inline Sixteen quarter(Int x) { return _mm512_extracti32x4_epi32(x, PART); }
template <int PART>
inline void store_half(void *p, Int x) { _mm256_storeu_si256(static_cast<__m256i *>(p), _mm512_extracti64x4_epi64(x, PART)); }

// Sixteen int32.
inline Int broadcast(int32_t x) { return _mm512_set1_epi32(x); }
inline Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
inline Int subtract(Int a, Int b) { return _mm512_sub_epi32(a, b); }
inline Int multiply(Int a, Int b) { return _mm512_mullo_epi32(a, b); }
inline Int most(Int a, Int b) { return _mm512_max_epi32(a, b); }
inline int32_t sum(Int x) { return _mm512_reduce_add_epi32(x); }
inline int32_t largest(Int x) { return _mm512_reduce_max_epi32(x); }
inline Int widen(Sixteen x) { return _mm512_cvtepu8_epi32(x); }
inline Sixteen narrow(Int x) { return _mm512_cvtepi32_epi8(x); }
inline Int gather(const int32_t *table, Int index) { return _mm512_i32gather_epi32(index, table, 4); }
inline Mask first_lanes(int count) { return first_of(count); }
inline Mask differing(Sixteen a, Sixteen b) { return _mm_cmpneq_epu8_mask(a, b); }
inline Mask both(Mask a, Mask b) { return a & b; }
inline Int keep(Mask mask, Int x) { return _mm512_maskz_mov_epi32(mask, x); }

// 64 bytes, or 16.
inline Int fill(uint8_t x) { return _mm512_set1_epi8(int8_t(x)); }
inline Sixteen fill_sixteen(uint8_t x) { return _mm_set1_epi8(int8_t(x)); }
inline Int differ(Int a, Int b) { return _mm512_xor_si512(a, b); }
inline Int both_bits(Int a, Int b) { return _mm512_and_si512(a, b); }
inline Int subtract_bytes(Int a, Int b) { return _mm512_sub_epi8(a, b); }
inline Int unequal_bytes(Int a, Int b) { return _mm512_movm_epi8(_mm512_cmpneq_epu8_mask(a, b)); }
inline Int most_bytes(Int a, Int b) { return _mm512_max_epu8(a, b); }
inline int32_t largest_byte(Int x) {
    const __m256i half = _mm256_max_epu8(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    const __m128i quarter = _mm_max_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    // of bytes upside down the least: of each two in a word the smaller one is in its lower half
    const __m128i down = _mm_xor_si128(quarter, _mm_set1_epi8(-1));
    return 255 - _mm_cvtsi128_si32(_mm_minpos_epu16(_mm_min_epu8(down, _mm_srli_epi16(down, 8)))) % 256;
}
inline Sixteen differ(Sixteen a, Sixteen b) { return _mm_xor_si128(a, b); }
inline Sixteen most_bytes(Sixteen a, Sixteen b) { return _mm_max_epu8(a, b); }
inline Int zip8_low(Int a, Int b) { return _mm512_unpacklo_epi8(a, b); }
inline Int zip8_high(Int a, Int b) { return _mm512_unpackhi_epi8(a, b); }
inline Int zip16_low(Int a, Int b) { return _mm512_unpacklo_epi16(a, b); }
inline Int zip16_high(Int a, Int b) { return _mm512_unpackhi_epi16(a, b); }
inline Sixteen zip8_low(Sixteen a, Sixteen b) { return _mm_unpacklo_epi8(a, b); }
inline Sixteen zip8_high(Sixteen a, Sixteen b) { return _mm_unpackhi_epi8(a, b); }
inline Sixteen zip16_low(Sixteen a, Sixteen b) { return _mm_unpacklo_epi16(a, b); }
inline Sixteen zip16_high(Sixteen a, Sixteen b) { return _mm_unpackhi_epi16(a, b); }
inline Int join(Sixteen a, Sixteen b, Sixteen c, Sixteen d) {
    const Int ab = _mm512_inserti32x4(_mm512_castsi128_si512(a), b, 1);
    return _mm512_inserti32x4(_mm512_inserti32x4(ab, c, 2), d, 3);
}
inline Int spread(Sixteen x, Int places) { return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(x), places); }
inline void transpose_quarters(const Int *q, Int *out) {
    const Int a = _mm512_shuffle_i32x4(q[0], q[1], 0x44), b = _mm512_shuffle_i32x4(q[2], q[3], 0x44);
    const Int c = _mm512_shuffle_i32x4(q[0], q[1], 0xEE), d = _mm512_shuffle_i32x4(q[2], q[3], 0xEE);
    out[0] = _mm512_shuffle_i32x4(a, b, 0x88), out[1] = _mm512_shuffle_i32x4(a, b, 0xDD);
    out[2] = _mm512_shuffle_i32x4(c, d, 0x88), out[3] = _mm512_shuffle_i32x4(c, d, 0xDD);
}
// Sums of bytes, in lanes that only `total` knows.
struct ByteSum {
    Int sums = _mm512_setzero_si512();
    void add_bytes(Int x) { sums = _mm512_add_epi64(sums, _mm512_sad_epu8(x, _mm512_setzero_si512())); }
    int32_t total() const { return int32_t(_mm512_reduce_add_epi64(sums)); }
};
// Products of four.
inline Four four(const uint8_t *p) {
    int32_t value;
    std::memcpy(&value, p, 4);
    return _mm512_set1_epi32(value);
}
inline Weights load_weights(const void *p) { return load(p); }
inline Weights as_weights(Int x) { return x; }
inline Int dot(Int sum, Four x, Weights w) { return _mm512_dpbusd_epi32(sum, x, w); }
inline Int dot_each(Int sum, Int x, Weights w) { return _mm512_dpbusd_epi32(sum, x, w); }
inline Weights low_nibbles(Int w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
inline Weights high_nibbles(Int w) { return low_nibbles(_mm512_srli_epi16(w, 4)); }
inline Int sum_fours(Int sum, Int weights) { return _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), weights); }

// Sixteen float32.
inline Float broadcast_float(float x) { return _mm512_set1_ps(x); }
inline Float floats(Int x) { return _mm512_cvtepi32_ps(x); }
inline Int rounded(Float x) { return _mm512_cvtps_epi32(x); }
inline Float round_even(Float x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline Float plus(Float a, Float b) { return _mm512_add_ps(a, b); }
inline Float times(Float a, Float b) { return _mm512_mul_ps(a, b); }
inline Float over(Float a, Float b) { return _mm512_div_ps(a, b); }
inline bool any_above(Float x, Float limit) { return _mm512_cmp_ps_mask(x, limit, _CMP_GT_OQ) != 0; }
inline Float clamped(Float x, Float low, Float high) { return _mm512_min_ps(_mm512_max_ps(x, low), high); }

// Eight int64.
inline Long broadcast_long(int64_t x) { return _mm512_set1_epi64(x); }
inline Long add_long(Long a, Long b) { return _mm512_add_epi64(a, b); }
inline Long subtract_long(Long a, Long b) { return _mm512_sub_epi64(a, b); }
inline Long multiply_long(Long a, Long b) { return _mm512_mullo_epi64(a, b); }
inline Long multiply_halves(Long a, Long b) { return _mm512_mul_epi32(a, b); }
inline Long clamped(Long x, Long low, Long high) { return _mm512_min_epi64(_mm512_max_epi64(x, low), high); }
inline Long shift_left(Long x, int by) { return _mm512_sll_epi64(x, _mm_cvtsi32_si128(by)); }
inline Long shift_right(Long x, int by) { return _mm512_sra_epi64(x, _mm_cvtsi32_si128(by)); }
inline Long shift_left(Long x, Long by) { return _mm512_sllv_epi64(x, by); }
inline Long shift_right(Long x, Long by) { return _mm512_srav_epi64(x, by); }
inline Long sign(Long x) { return _mm512_srai_epi64(x, 63); }
inline Long subtract_if_negative(Long x, Long y) { return _mm512_mask_sub_epi64(x, _mm512_movepi64_mask(x), x, y); }
inline int64_t sum_long(Long x) { return _mm512_reduce_add_epi64(x); }
inline Long round_times(Long x, double factor) { return _mm512_cvtpd_epi64(_mm512_mul_pd(_mm512_cvtepi64_pd(x), _mm512_set1_pd(factor))); }

// Between the two.
inline Long low_half(Int x) { return _mm512_cvtepi32_epi64(_mm512_castsi512_si256(x)); }
inline Long high_half(Int x) { return _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(x, 1)); }
inline Int join_halves(Long low, Long high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(low)), _mm512_cvtepi64_epi32(high), 1);
}
inline Long load_half(const int32_t *p) { return _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p))); }
inline Int odd(Int x) { return _mm512_srli_epi64(x, 32); }
inline Long even_products(Int a, Int b) { return _mm512_mul_epi32(a, b); }
inline Int join_even_odd(Long even, Long odd) { return _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32)); }
inline Long load_even(const int64_t *p) {
    return _mm512_permutex2var_epi64(load(p), _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), load(p + 8));
}
inline Long load_odd(const int64_t *p) {
    return _mm512_permutex2var_epi64(load(p), _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), load(p + 8));
}
inline Sixteen narrow_halves(Long low, Long high) { return _mm_unpacklo_epi64(_mm512_cvtepi64_epi8(low), _mm512_cvtepi64_epi8(high)); }

// Sixteen-bit zero points and 8-bit bounds of levels.
struct Packing {
    Int zero_point, low, high;
    Packing(int zero, int least, int greatest) : zero_point(_mm512_set1_epi16(int16_t(zero))), low(fill(uint8_t(least))), high(fill(uint8_t(greatest))) {}
};
// As 128-bit lanes hold them: lane L of the result has those of a, b, c, d in turn.
inline Int pack_lanes(const Packing &p, Int a, Int b, Int c, Int d) {
    const Int ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), p.zero_point), cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), p.zero_point);
    return _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(ab, cd), p.low), p.high);
}
inline Int pack_levels(const Packing &p, Int a, Int b, Int c, Int d) {
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), pack_lanes(p, a, b, c, d));
}

// Half the work where a block of a depthwise convolution has 32 channels or fewer.
constexpr bool WHOLE_BLOCKS = true;
struct Half {
    using Register = __m256i;
    using Taps = __m256i;
    static Register dot(Register sum, Register x, Taps w) { return _mm256_dpbusd_epi32(sum, x, w); }
    static Taps taps(const void *p) { return _mm256_loadu_si256(static_cast<const Register *>(p)); }
};

// Products of four saturate nowhere: no panels are needed.
using Pairs = void;
using Twos = void;

}  // namespace

#include "half.h"
#ifdef __AVX512VBMI__
#include "vbmi.h"
#else
#include "byte_table.h"
#include "wide_table.h"
#endif
#include "nibbles.h"
