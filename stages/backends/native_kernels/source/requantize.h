// Sixteen accumulators to sixteen levels.
#pragma once
#include <immintrin.h>
#include <algorithm>
#include "step.h"

namespace {

// Per-channel constants of 16 channels in fixed point, split into even and odd 64-bit lanes.
struct Lanes {
    __m512i even, odd;
};

inline __m512i widen_odd(__m512i x) { return _mm512_srli_epi64(x, 32); }

inline Lanes load_lanes(const int64_t *p) {
    __m512i a = _mm512_loadu_si512(p), b = _mm512_loadu_si512(p + 8);
    const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
    return {_mm512_permutex2var_epi64(a, even, b), _mm512_permutex2var_epi64(a, odd, b)};
}

inline __m512i saturated_shift(__m512i x, __m512i left) {
    const __m512i low = _mm512_set1_epi64(INT32_MIN), high = _mm512_set1_epi64(INT32_MAX);
    __m512i a = _mm512_sllv_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(x)),
                                  _mm512_cvtepi32_epi64(_mm512_castsi512_si256(left)));
    __m512i b = _mm512_sllv_epi64(_mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(x, 1)),
                                  _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(left, 1)));
    a = _mm512_min_epi64(_mm512_max_epi64(a, low), high);
    b = _mm512_min_epi64(_mm512_max_epi64(b, low), high);
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(a)), _mm512_cvtepi64_epi32(b), 1);
}

// (x · multiplier + nudge − carry·[x < 0]) >> right; x in the low halves. carry counts only where x·multiplier < 0.
inline __m512i multiply(__m512i x, __m512i multiplier, __m512i nudge, __m512i carry, __m512i right) {
    __m512i product = _mm512_mul_epi32(x, multiplier);
    __mmask8 negative = _mm512_movepi64_mask(product);
    product = _mm512_mask_sub_epi64(product, negative, product, carry);
    return _mm512_srav_epi64(_mm512_add_epi64(product, nudge), right);
}

// Ratios of 16 channels, and optionally of what is added to them.
template <bool FIXED, bool RESIDUAL>
struct Rescale {
    const Requantization &r;
    __m512 ratio, residual_ratio, low_f, high_f;
    __m512i multiplier, left, zero_point, residual_zero;
    Lanes nudge, carry, right;
    __m512i residual_multiplier, residual_nudge, residual_carry, residual_right, residual_left;
    __m512i half, headroom, low, high;
    bool residual_shifts_left = false;

    Rescale(const Requantization &requantize, int channel, const Ratio &term) : r(requantize) {
        zero_point = _mm512_set1_epi32(r.zero_point);
        if (RESIDUAL) residual_zero = _mm512_set1_epi32(term.zero_point);
        if (!FIXED) {
            ratio = _mm512_loadu_ps(r.ratio + channel);
            low_f = _mm512_set1_ps(float(r.low)), high_f = _mm512_set1_ps(float(r.high));
            if (RESIDUAL) residual_ratio = _mm512_set1_ps(term.ratio);
            return;
        }
        multiplier = _mm512_loadu_si512(r.multiplier + channel);
        left = _mm512_loadu_si512(r.left + channel);
        nudge = load_lanes(r.nudge + channel), carry = load_lanes(r.carry + channel);
        right = load_lanes(r.right + channel);
        half = _mm512_set1_epi64((int64_t(1) << r.headroom) >> 1), headroom = _mm512_set1_epi64(r.headroom);
        low = _mm512_set1_epi64(r.low), high = _mm512_set1_epi64(r.high);
        if (RESIDUAL) {
            residual_multiplier = _mm512_set1_epi64(term.multiplier), residual_nudge = _mm512_set1_epi64(term.nudge);
            residual_carry = _mm512_set1_epi64(term.carry), residual_right = _mm512_set1_epi64(term.right);
            residual_left = _mm512_set1_epi32(term.left), residual_shifts_left = term.left != 0;
        }
    }

    __m512i saturated(__m512i x) const {
        return r.saturates ? _mm512_min_epi64(_mm512_max_epi64(x, _mm512_set1_epi64(INT32_MIN)), _mm512_set1_epi64(INT32_MAX)) : x;
    }

    __m512i clamped(__m512i terms) const {
        if (r.headroom) {
            if (r.mode == 1) terms = _mm512_add_epi64(terms, _mm512_srai_epi64(terms, 63));
            terms = _mm512_srav_epi64(_mm512_add_epi64(terms, half), headroom);
        }
        return _mm512_min_epi64(_mm512_max_epi64(terms, low), high);
    }

    // 16 int32 to 16 int32 levels; `residual` points to 16 levels.
    __m512i levels(__m512i x, const uint8_t *residual) const {
        __m512i added;
        if (RESIDUAL) {
            __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(residual));
            added = _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), residual_zero);
        }
        if (!FIXED) {
            __m512 terms = _mm512_mul_ps(_mm512_cvtepi32_ps(x), ratio);
            if (RESIDUAL) terms = _mm512_add_ps(terms, _mm512_mul_ps(_mm512_cvtepi32_ps(added), residual_ratio));
            terms = _mm512_min_ps(_mm512_max_ps(terms, low_f), high_f);
            return _mm512_add_epi32(_mm512_cvtps_epi32(terms), zero_point);
        }
        if (r.shifts_left) x = saturated_shift(x, left);
        __m512i even = saturated(multiply(x, multiplier, nudge.even, carry.even, right.even));
        __m512i odd = saturated(multiply(widen_odd(x), widen_odd(multiplier), nudge.odd, carry.odd, right.odd));
        if (RESIDUAL) {
            if (residual_shifts_left) added = saturated_shift(added, residual_left);
            even = _mm512_add_epi64(even, saturated(multiply(added, residual_multiplier, residual_nudge, residual_carry, residual_right)));
            odd = _mm512_add_epi64(odd, saturated(multiply(widen_odd(added), residual_multiplier, residual_nudge, residual_carry, residual_right)));
        }
        __m512i joined = _mm512_mask_blend_epi32(0xAAAA, clamped(even), _mm512_slli_epi64(clamped(odd), 32));
        return _mm512_add_epi32(joined, zero_point);
    }
};

// Sixteen levels, or those that `mask` picks: masked stores are slow, and mostly not needed.
inline void store_levels(uint8_t *out, __m128i levels, __mmask16 mask) {
    if (mask == 0xFFFF)
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out), levels);
    else
        _mm_mask_storeu_epi8(out, mask, levels);
}

// A tile's accumulators (pixels, vectors, 16) and where its levels go.
struct Tile {
    int32_t *acc;
    int pixels, vectors;
    int channel, channels;  // of the first vector; of the whole step
    int room;               // bytes from a pixel's first vector on that nothing else has written
    uint8_t *out;
    int64_t out_stride;
    const uint8_t *residual;
    int64_t residual_stride;

    int left(int vector) const { return channels - channel - 16 * vector; }
    bool whole(int vector) const { return left(vector) >= 16 || 16 * (vector + 1) <= room; }
};

template <bool FIXED, bool RESIDUAL>
void finish_each(const Requantization &r, const Ratio &term, const Tile &t) {
    for (int v = 0; v < t.vectors && t.left(v) > 0; v++) {
        const __mmask16 mask = t.whole(v) ? 0xFFFF : (1u << t.left(v)) - 1;
        const Rescale<FIXED, RESIDUAL> rescale(r, t.channel + 16 * v, term);
        for (int p = 0; p < t.pixels; p++) {
            const __m512i x = _mm512_loadu_si512(t.acc + (p * t.vectors + v) * 16);
            const __m512i levels = rescale.levels(x, RESIDUAL ? t.residual + p * t.residual_stride + 16 * v : nullptr);
            store_levels(t.out + p * t.out_stride + 16 * v, _mm512_cvtepi32_epi8(levels), mask);
        }
    }
}

// The same for float ratios whose products stay far inside int32 (`narrow`) and whole vectors, from registers: four
// vectors share the last steps, in which packing saturates as `clamp` would.
template <int VECTORS, int PIXELS, bool RESIDUAL>
inline __attribute__((always_inline)) void finish_packed(const __m512i (&sum)[PIXELS][VECTORS], const Requantization &r, const Ratio &term,
                                                         const Tile &t) {
    constexpr int EACH = 4 / VECTORS;  // pixels that leave together
    const __m512i zero_point = _mm512_set1_epi16(int16_t(r.zero_point));
    const __m512i low = _mm512_set1_epi8(int8_t(r.low + r.zero_point)), high = _mm512_set1_epi8(int8_t(r.high + r.zero_point));
    const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const float *ratio = r.ratio + t.channel;
#pragma GCC unroll 16
    for (int p = 0; p < PIXELS; p += EACH) {
        __m512i rounded[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const int pixel = std::min(p + j / VECTORS, PIXELS - 1), v = j % VECTORS;
            __m512 terms = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[pixel][v]), _mm512_loadu_ps(ratio + 16 * v));
            if (RESIDUAL) {
                const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(t.residual + pixel * t.residual_stride + 16 * v));
                const __m512i added = _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(term.zero_point));
                terms = _mm512_add_ps(terms, _mm512_mul_ps(_mm512_cvtepi32_ps(added), _mm512_set1_ps(term.ratio)));
            }
            rounded[j] = _mm512_cvtps_epi32(terms);
        }
        const __m512i a = _mm512_adds_epi16(_mm512_packs_epi32(rounded[0], rounded[1]), zero_point);
        const __m512i b = _mm512_adds_epi16(_mm512_packs_epi32(rounded[2], rounded[3]), zero_point);
        __m512i levels = _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(a, b), low), high);
        levels = _mm512_permutexvar_epi32(in_order, levels);
        uint8_t *out = t.out + p * t.out_stride;
        if (VECTORS == 4 || (t.out_stride == 16 * VECTORS && p + EACH <= PIXELS)) {
            _mm512_storeu_si512(out, levels);
        } else if (VECTORS == 2) {
            _mm256_storeu_si256(reinterpret_cast<__m256i *>(out), _mm512_castsi512_si256(levels));
            if (p + 1 < PIXELS) _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + t.out_stride), _mm512_extracti64x4_epi64(levels, 1));
        } else {
            const __m128i each[4] = {_mm512_castsi512_si128(levels), _mm512_extracti32x4_epi32(levels, 1),
                                     _mm512_extracti32x4_epi32(levels, 2), _mm512_extracti32x4_epi32(levels, 3)};
            for (int j = 0; j < 4 && p + j < PIXELS; j++) store_levels(out + j * t.out_stride, each[j], 0xFFFF);
        }
    }
}

inline void finish(const Requantization &r, const Ratio &term, const Tile &t) {
    if (r.mode)
        (t.residual ? finish_each<true, true> : finish_each<true, false>)(r, term, t);
    else
        (t.residual ? finish_each<false, true> : finish_each<false, false>)(r, term, t);
}

}  // namespace
