// Two registers of AVX2 as 64 bytes: all primitives but the products of four, in which CPUs with and without VNNI
// differ.
#pragma once
#include <immintrin.h>
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {

struct Int {
    __m256i low, high;
};
struct Float {
    __m256 low, high;
};
struct Long {
    __m256i low, high;
};
using Sixteen = __m128i;
using Mask = Int;

constexpr int MOST_VECTORS = 2;
// Twelve accumulators of eight lanes in sixteen registers.
constexpr int most_pixels(int vectors) { return vectors == 1 ? 6 : 3; }

inline void relax() { _mm_pause(); }

// Applies f to both halves.
template <class V = Int, class A, class F>
inline V both_halves(A a, F f) { return {f(a.low), f(a.high)}; }
template <class V = Int, class A, class B, class F>
inline V both_halves(A a, B b, F f) { return {f(a.low, b.low), f(a.high, b.high)}; }
inline Int twice(__m256i x) { return {x, x}; }

// Memory.
inline __m256i load_register(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
inline void store_register(void *p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i *>(p), x); }
template <class V>
inline V loaded(const void *p) {
    const auto *bytes = static_cast<const uint8_t *>(p);
    return {load_register(bytes), load_register(bytes + 32)};
}
inline Int load(const void *p) { return loaded<Int>(p); }
inline void store(void *p, Int x) {
    store_register(p, x.low);
    store_register(static_cast<uint8_t *>(p) + 32, x.high);
}
inline Int load_some(const void *p, int64_t) { return load(p); }
inline Int load_first(const void *p, int64_t count) {
    if (count >= 64) return load(p);
    alignas(32) uint8_t bytes[64] = {};
    std::memcpy(bytes, p, count);
    return load(bytes);
}
inline void store_first(void *p, Int x, int64_t count) {
    if (count >= 64) return store(p, x);
    alignas(32) uint8_t bytes[64];
    store(bytes, x);
    std::memcpy(p, bytes, count);
}
inline Sixteen load_sixteen(const void *p) { return _mm_loadu_si128(static_cast<const Sixteen *>(p)); }
inline void store_sixteen(void *p, Sixteen x) { _mm_storeu_si128(static_cast<Sixteen *>(p), x); }
inline Sixteen load_sixteen_first(const void *p, int count) {
    alignas(16) uint8_t bytes[16] = {};
    std::memcpy(bytes, p, std::min(count, 16));
    return load_sixteen(bytes);
}
inline void store_sixteen_first(void *p, Sixteen x, int count) {
    alignas(16) uint8_t bytes[16];
    store_sixteen(bytes, x);
    std::memcpy(p, bytes, std::min(count, 16));
}
inline Float load_floats(const float *p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline Float load_floats_first(const float *p, int count) {
    alignas(32) float values[16] = {};
    std::memcpy(values, p, 4 * std::min(count, 16));
    return load_floats(values);
}
inline Long load_longs(const int64_t *p) { return loaded<Long>(p); }
template <int PART>
inline Sixteen quarter(Int x) { return _mm256_extracti128_si256(PART < 2 ? x.low : x.high, PART % 2); }
template <int PART>
inline void store_half(void *p, Int x) { store_register(p, PART ? x.high : x.low); }

// Sixteen int32.
inline Int broadcast(int32_t x) { return twice(_mm256_set1_epi32(x)); }
inline Int add(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_add_epi32(x, y); }); }
inline Int subtract(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_sub_epi32(x, y); }); }
inline Int multiply(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_mullo_epi32(x, y); }); }
inline Int most(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_max_epi32(x, y); }); }
template <class F>
inline int32_t reduced(Int x, F f) {
    const __m256i half = f(x.low, x.high);
    __m256i quarter = f(half, _mm256_permute4x64_epi64(half, 0x4E));
    quarter = f(quarter, _mm256_shuffle_epi32(quarter, 0x4E));
    return _mm256_cvtsi256_si32(f(quarter, _mm256_shuffle_epi32(quarter, 0xB1)));
}
inline int32_t sum(Int x) { return reduced(x, [](auto a, auto b) { return _mm256_add_epi32(a, b); }); }
inline int32_t largest(Int x) { return reduced(x, [](auto a, auto b) { return _mm256_max_epi32(a, b); }); }
inline Int widen(Sixteen x) { return {_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))}; }
inline Sixteen narrow(Int x) {
    const __m256i byte = _mm256_set1_epi32(0xFF);
    const __m256i words = _mm256_packus_epi32(_mm256_and_si256(x.low, byte), _mm256_and_si256(x.high, byte));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
    return _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
}
inline Int gather(const int32_t *table, Int index) {
    return both_halves(index, [&](auto x) { return _mm256_i32gather_epi32(table, x, 4); });
}
inline Mask first_lanes(int count) {
    const Int lanes = {_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
    return both_halves(lanes, [&](auto x) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), x); });
}
inline Mask differing(Sixteen a, Sixteen b) {
    const Sixteen mask = _mm_xor_si128(_mm_cmpeq_epi8(a, b), _mm_set1_epi8(-1));
    return {_mm256_cvtepi8_epi32(mask), _mm256_cvtepi8_epi32(_mm_srli_si128(mask, 8))};
}
inline Mask both(Mask a, Mask b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_and_si256(x, y); }); }
inline Int keep(Mask mask, Int x) { return both(mask, x); }

// 64 bytes, or 16.
inline Int fill(uint8_t x) { return twice(_mm256_set1_epi8(int8_t(x))); }
inline Sixteen fill_sixteen(uint8_t x) { return _mm_set1_epi8(int8_t(x)); }
inline Int differ(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_xor_si256(x, y); }); }
inline Int both_bits(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_and_si256(x, y); }); }
inline Int subtract_bytes(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_sub_epi8(x, y); }); }
inline Int unequal_bytes(Int a, Int b) {
    return both_halves(a, b, [](auto x, auto y) { return _mm256_xor_si256(_mm256_cmpeq_epi8(x, y), _mm256_set1_epi8(-1)); });
}
inline Int most_bytes(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_max_epu8(x, y); }); }
inline int32_t largest_byte(Int x) {
    const __m256i half = _mm256_max_epu8(x.low, x.high);
    const __m128i quarter = _mm_max_epu8(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    // of bytes upside down the least: of each two in a word the smaller one is in its lower half
    const __m128i down = _mm_xor_si128(quarter, _mm_set1_epi8(-1));
    return 255 - _mm_cvtsi128_si32(_mm_minpos_epu16(_mm_min_epu8(down, _mm_srli_epi16(down, 8)))) % 256;
}
inline Sixteen differ(Sixteen a, Sixteen b) { return _mm_xor_si128(a, b); }
inline Sixteen most_bytes(Sixteen a, Sixteen b) { return _mm_max_epu8(a, b); }
inline Int zip8_low(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_unpacklo_epi8(x, y); }); }
inline Int zip8_high(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_unpackhi_epi8(x, y); }); }
inline Int zip16_low(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_unpacklo_epi16(x, y); }); }
inline Int zip16_high(Int a, Int b) { return both_halves(a, b, [](auto x, auto y) { return _mm256_unpackhi_epi16(x, y); }); }
inline Sixteen zip8_low(Sixteen a, Sixteen b) { return _mm_unpacklo_epi8(a, b); }
inline Sixteen zip8_high(Sixteen a, Sixteen b) { return _mm_unpackhi_epi8(a, b); }
inline Sixteen zip16_low(Sixteen a, Sixteen b) { return _mm_unpacklo_epi16(a, b); }
inline Sixteen zip16_high(Sixteen a, Sixteen b) { return _mm_unpackhi_epi16(a, b); }
inline Int join(Sixteen a, Sixteen b, Sixteen c, Sixteen d) { return {_mm256_set_m128i(b, a), _mm256_set_m128i(d, c)}; }
inline Int spread(Sixteen x, Int places) {
    const __m256i both = _mm256_broadcastsi128_si256(x);
    return {_mm256_shuffle_epi8(both, places.low), _mm256_shuffle_epi8(both, places.high)};
}
inline void transpose_quarters(const Int *q, Int *out) {
    const auto low = [](__m256i a, __m256i b) { return _mm256_permute2x128_si256(a, b, 0x20); };
    const auto high = [](__m256i a, __m256i b) { return _mm256_permute2x128_si256(a, b, 0x31); };
    out[0] = {low(q[0].low, q[1].low), low(q[2].low, q[3].low)};
    out[1] = {high(q[0].low, q[1].low), high(q[2].low, q[3].low)};
    out[2] = {low(q[0].high, q[1].high), low(q[2].high, q[3].high)};
    out[3] = {high(q[0].high, q[1].high), high(q[2].high, q[3].high)};
}
struct ByteSum {
    __m256i sums = _mm256_setzero_si256();
    void add_bytes(Int x) {
        const __m256i zero = _mm256_setzero_si256();
        sums = _mm256_add_epi64(sums, _mm256_add_epi64(_mm256_sad_epu8(x.low, zero), _mm256_sad_epu8(x.high, zero)));
    }
    int32_t total() const { return sum({sums, _mm256_setzero_si256()}); }  // each lane far below 2^32
};
// A table of 256 bytes: a shuffle for each value of the upper four bits, and a choice between two for each of these.
struct Table {
    __m256i parts[16];
    explicit Table(const uint8_t *table) {
        for (int k = 0; k < 16; k++) parts[k] = _mm256_broadcastsi128_si256(load_sixteen(table + 16 * k));
    }
    // By the lower four bits in COUNT parts from `first` on, among which the upper bits choose.
    template <int COUNT>
    __m256i among(int first, __m256i low, const __m256i *bits) const {
        if constexpr (COUNT == 1) {
            return _mm256_shuffle_epi8(parts[first], low);
        } else {
            const __m256i a = among<COUNT / 2>(first, low, bits), b = among<COUNT / 2>(first + COUNT / 2, low, bits);
            return _mm256_blendv_epi8(a, b, bits[COUNT == 16 ? 3 : COUNT == 8 ? 2 : COUNT == 4 ? 1 : 0]);
        }
    }
    Int at(Int levels) const {
        return both_halves(levels, [&](auto x) {
            const __m256i bits[4] = {_mm256_slli_epi16(x, 3), _mm256_slli_epi16(x, 2), _mm256_slli_epi16(x, 1), x};  // on top
            return among<16>(0, _mm256_and_si256(x, _mm256_set1_epi8(15)), bits);
        });
    }
};

// Sixteen float32.
inline Float broadcast_float(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Float floats(Int x) { return both_halves<Float>(x, [](auto v) { return _mm256_cvtepi32_ps(v); }); }
inline Int rounded(Float x) { return both_halves<Int>(x, [](auto v) { return _mm256_cvtps_epi32(v); }); }
inline Float round_even(Float x) {
    return both_halves<Float>(x, [](auto v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); });
}
inline Float plus(Float a, Float b) { return both_halves<Float>(a, b, [](auto x, auto y) { return _mm256_add_ps(x, y); }); }
inline Float times(Float a, Float b) { return both_halves<Float>(a, b, [](auto x, auto y) { return _mm256_mul_ps(x, y); }); }
inline Float over(Float a, Float b) { return both_halves<Float>(a, b, [](auto x, auto y) { return _mm256_div_ps(x, y); }); }
inline bool any_above(Float x, Float limit) {
    return _mm256_movemask_ps(_mm256_or_ps(_mm256_cmp_ps(x.low, limit.low, _CMP_GT_OQ), _mm256_cmp_ps(x.high, limit.high, _CMP_GT_OQ))) != 0;
}
inline Float clamped(Float x, Float low, Float high) {
    const auto most = both_halves<Float>(x, low, [](auto a, auto b) { return _mm256_max_ps(a, b); });
    return both_halves<Float>(most, high, [](auto a, auto b) { return _mm256_min_ps(a, b); });
}

// Eight int64.
inline Long broadcast_long(int64_t x) { return {_mm256_set1_epi64x(x), _mm256_set1_epi64x(x)}; }
inline Long add_long(Long a, Long b) { return both_halves<Long>(a, b, [](auto x, auto y) { return _mm256_add_epi64(x, y); }); }
inline Long subtract_long(Long a, Long b) { return both_halves<Long>(a, b, [](auto x, auto y) { return _mm256_sub_epi64(x, y); }); }
inline Long multiply_long(Long a, Long b) {
    return both_halves<Long>(a, b, [](auto x, auto y) {
        const __m256i crossed = _mm256_add_epi64(_mm256_mul_epu32(_mm256_srli_epi64(x, 32), y), _mm256_mul_epu32(x, _mm256_srli_epi64(y, 32)));
        return _mm256_add_epi64(_mm256_mul_epu32(x, y), _mm256_slli_epi64(crossed, 32));
    });
}
inline Long multiply_halves(Long a, Long b) { return both_halves<Long>(a, b, [](auto x, auto y) { return _mm256_mul_epi32(x, y); }); }
inline Long sign(Long x) { return both_halves<Long>(x, [](auto v) { return _mm256_cmpgt_epi64(_mm256_setzero_si256(), v); }); }
inline Long clamped(Long x, Long low, Long high) {
    const auto greater = both_halves<Long>(x, low, [](auto a, auto b) { return _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(b, a)); });
    return both_halves<Long>(greater, high, [](auto a, auto b) { return _mm256_blendv_epi8(a, b, _mm256_cmpgt_epi64(a, b)); });
}
inline Long shift_left(Long x, int by) { return both_halves<Long>(x, [&](auto v) { return _mm256_sll_epi64(v, _mm_cvtsi32_si128(by)); }); }
inline Long shift_left(Long x, Long by) { return both_halves<Long>(x, by, [](auto v, auto n) { return _mm256_sllv_epi64(v, n); }); }
// Arithmetic, by the logical shift of x or, where it is negative, of its complement.
inline Long shift_right(Long x, Long by) {
    return both_halves<Long>(x, by, [](auto v, auto n) {
        const __m256i negative = _mm256_cmpgt_epi64(_mm256_setzero_si256(), v);
        return _mm256_xor_si256(_mm256_srlv_epi64(_mm256_xor_si256(v, negative), n), negative);
    });
}
inline Long shift_right(Long x, int by) { return shift_right(x, broadcast_long(by)); }
inline Long subtract_if_negative(Long x, Long y) {
    const Long taken = both_halves<Long>(sign(x), y, [](auto a, auto b) { return _mm256_and_si256(a, b); });
    return subtract_long(x, taken);
}
inline int64_t sum_long(Long x) {
    const __m256i half = _mm256_add_epi64(x.low, x.high);
    const Sixteen quarter = _mm_add_epi64(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    return _mm_cvtsi128_si64(quarter) + _mm_extract_epi64(quarter, 1);
}
// In float64: upper and lower 32 bits are exact, so that their sum rounds x once. The last sum, with 3·2^51, leaves
// the rounded product in the lower bits: it lies within ±2^51.
inline Long round_times(Long x, double factor) {
    return both_halves<Long>(x, [&](auto v) {
        const __m256i at_2_52 = _mm256_castpd_si256(_mm256_set1_pd(0x1p52)), middle = _mm256_castpd_si256(_mm256_set1_pd(0x1.8p52));
        const __m256 parts = _mm256_castsi256_ps(v);
        const __m256i upper = _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(parts, parts, 0xDD)), 0xD8);
        const __m256d high = _mm256_mul_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(upper)), _mm256_set1_pd(0x1p32));
        const __m256d low = _mm256_sub_pd(_mm256_castsi256_pd(_mm256_blend_epi32(v, at_2_52, 0xAA)), _mm256_set1_pd(0x1p52));
        const __m256d product = _mm256_mul_pd(_mm256_add_pd(high, low), _mm256_set1_pd(factor));
        return _mm256_sub_epi64(_mm256_castpd_si256(_mm256_add_pd(product, _mm256_castsi256_pd(middle))), middle);
    });
}

// Between the two.
inline Long widened(__m256i x) { return {_mm256_cvtepi32_epi64(_mm256_castsi256_si128(x)), _mm256_cvtepi32_epi64(_mm256_extracti128_si256(x, 1))}; }
inline Long low_half(Int x) { return widened(x.low); }
inline Long high_half(Int x) { return widened(x.high); }
inline Long load_half(const int32_t *p) { return widened(load_register(p)); }
inline __m256i narrowed(Long x) {
    const __m256 parts = _mm256_shuffle_ps(_mm256_castsi256_ps(x.low), _mm256_castsi256_ps(x.high), 0x88);
    return _mm256_permute4x64_epi64(_mm256_castps_si256(parts), 0xD8);
}
inline Int join_halves(Long low, Long high) { return {narrowed(low), narrowed(high)}; }
inline Int odd(Int x) { return both_halves(x, [](auto v) { return _mm256_srli_epi64(v, 32); }); }
inline Long even_products(Int a, Int b) { return both_halves<Long>(a, b, [](auto x, auto y) { return _mm256_mul_epi32(x, y); }); }
inline Int join_even_odd(Long even, Long odd) {
    return both_halves<Int>(even, odd, [](auto x, auto y) { return _mm256_blend_epi32(x, _mm256_slli_epi64(y, 32), 0xAA); });
}
template <class F>
inline Long every_second(const int64_t *p, F unpack) {
    const Long a = load_longs(p), b = load_longs(p + 8);
    return {_mm256_permute4x64_epi64(unpack(a.low, a.high), 0xD8), _mm256_permute4x64_epi64(unpack(b.low, b.high), 0xD8)};
}
inline Long load_even(const int64_t *p) { return every_second(p, [](auto a, auto b) { return _mm256_unpacklo_epi64(a, b); }); }
inline Long load_odd(const int64_t *p) { return every_second(p, [](auto a, auto b) { return _mm256_unpackhi_epi64(a, b); }); }
inline Sixteen narrow_halves(Long low, Long high) { return narrow(join_halves(low, high)); }

struct Packing {
    __m256i zero_point, low, high;
    Packing(int zero, int least, int greatest)
        : zero_point(_mm256_set1_epi16(int16_t(zero))), low(_mm256_set1_epi8(int8_t(least))), high(_mm256_set1_epi8(int8_t(greatest))) {}
    __m256i bytes(__m256i a, __m256i b, __m256i c, __m256i d) const {
        const __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero_point), cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero_point);
        return _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(ab, cd), low), high);
    }
};
inline Int pack_lanes(const Packing &p, Int a, Int b, Int c, Int d) {
    return {p.bytes(a.low, b.low, c.low, d.low), p.bytes(a.high, b.high, c.high, d.high)};
}
inline Int pack_levels(const Packing &p, Int a, Int b, Int c, Int d) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return {_mm256_permutevar8x32_epi32(p.bytes(a.low, a.high, b.low, b.high), order),
            _mm256_permutevar8x32_epi32(p.bytes(c.low, c.high, d.low, d.high), order)};
}

constexpr bool WHOLE_BLOCKS = false;
constexpr int DOT_OFFSET = 0;

}  // namespace
