// Softmax and layer normalization over the channels of each pixel, in 64 bits, as the reference's kernels say.
#pragma once
#include <algorithm>
#include <cmath>
#include <vector>
#include "requantize.h"

namespace {

inline __mmask16 first_of(int count) { return count >= 16 ? 0xFFFF : (1u << count) - 1; }

// ⌊numerator / divisor⌋ for divisors above 0 and quotients of at most 2^31: float64's is off by one at the most.
struct Divisor {
    __m512i divisor;
    __m512d inverse;

    explicit Divisor(int64_t by) : divisor(_mm512_set1_epi64(by)), inverse(_mm512_set1_pd(1.0 / double(by))) {}

    __m512i quotient(__m512i numerator) const {
        const __m512i near = _mm512_cvtpd_epi64(_mm512_mul_pd(_mm512_cvtepi64_pd(numerator), inverse));
        const __m512i left = _mm512_sub_epi64(numerator, _mm512_mullo_epi64(near, divisor));
        const __m512i lower = _mm512_mask_sub_epi64(near, _mm512_movepi64_mask(left), near, _mm512_set1_epi64(1));
        return _mm512_mask_add_epi64(lower, _mm512_cmpge_epi64_mask(left, divisor), lower, _mm512_set1_epi64(1));
    }
};

inline __m512i low_half(__m512i x) { return _mm512_cvtepi32_epi64(_mm512_castsi512_si256(x)); }
inline __m512i high_half(__m512i x) { return _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(x, 1)); }

// Levels from their zero point, clamped in 64 bits, to the first `count` of sixteen bytes.
inline void store_clamped(const Requantization &r, __m512i low, __m512i high, uint8_t *out, int count) {
    const __m512i least = _mm512_set1_epi64(r.low), most = _mm512_set1_epi64(r.high), zero_point = _mm512_set1_epi64(r.zero_point);
    low = _mm512_add_epi64(_mm512_min_epi64(_mm512_max_epi64(low, least), most), zero_point);
    high = _mm512_add_epi64(_mm512_min_epi64(_mm512_max_epi64(high, least), most), zero_point);
    const __m128i levels = _mm_unpacklo_epi64(_mm512_cvtepi64_epi8(low), _mm512_cvtepi64_epi8(high));
    store_levels(out, levels, first_of(count));
}

// `bias` holds the exponentials, `constant` the output's inverse scale; the residual says which entries take part.
inline void softmax(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *keep = s.residual < 0 ? nullptr : &images[s.residual];
    const __m512i twice = _mm512_set1_epi64(2 * s.constant);
    const int count = in.channels;
    static thread_local std::vector<int32_t> row;  // of exponentials
    row.resize(count + 16);
    for (int y = from; y < to; y++)
        for (int x = 0; x < in.width; x++) {
            const uint8_t *source = in.at(arena, y, x), *kept = nullptr;
            if (keep) kept = keep->at(arena, keep->height == 1 ? 0 : y, keep->width == 1 ? 0 : x);
            uint8_t *target = out.at(arena, y, x);
            const auto taking_part = [&](int c) {
                const __mmask16 inside = first_of(count - c);
                if (!kept) return inside;
                const __m128i dropped = _mm_set1_epi8(int8_t(keep->zero_point));
                return _mm_mask_cmpneq_epu8_mask(inside, _mm_loadu_si128(reinterpret_cast<const __m128i *>(kept + c)), dropped);
            };
            __m128i most = _mm_setzero_si128();
            for (int c = 0; c < count; c += 16) most = _mm_max_epu8(most, _mm_maskz_loadu_epi8(taking_part(c), source + c));
            const __m512i largest = _mm512_set1_epi32(_mm512_reduce_max_epi32(_mm512_cvtepu8_epi32(most)));
            const auto exponentials = [&](int c) {
                const __m512i levels = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(source + c)));
                return _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), taking_part(c), _mm512_sub_epi32(largest, levels), s.bias, 4);
            };
            __m512i sums = _mm512_setzero_si512();
            for (int c = 0; c < count; c += 16) {
                const __m512i a = exponentials(c);
                _mm512_storeu_si512(row.data() + c, a);
                sums = _mm512_add_epi64(sums, _mm512_add_epi64(low_half(a), high_half(a)));
            }
            const int64_t total = std::max<int64_t>(_mm512_reduce_add_epi64(sums), 1);
            const Divisor by(total << 15);
            const __m512i half = _mm512_set1_epi64(total << 14);
            const auto share = [&](__m512i a) { return by.quotient(_mm512_add_epi64(_mm512_mullo_epi64(a, twice), half)); };
            for (int c = 0; c < count; c += 16) {
                const __m512i a = _mm512_loadu_si512(row.data() + c);
                store_clamped(s.requantize, share(low_half(a)), share(high_half(a)), target + c, count - c);
            }
        }
}

// ⌊√x⌋ for 0 < x < 2^62.
inline int64_t square_root(int64_t x) {
    int64_t root = int64_t(std::sqrt(double(x)));
    root -= root * root > x;
    root += (root + 1) * (root + 1) <= x;
    return root;
}

// `bias` holds gamma, `offset` beta and half of a step, `constant` epsilon.
inline void layer_norm(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const __m512i size = _mm512_set1_epi32(in.channels), zero_point = _mm512_set1_epi32(in.zero_point);
    const int count = in.channels;
    const __m128i shift = _mm_cvtsi32_si128(s.shift);
    for (int y = from; y < to; y++)
        for (int x = 0; x < in.width; x++) {
            const uint8_t *source = in.at(arena, y, x);
            uint8_t *target = out.at(arena, y, x);
            const auto centred = [&](int c) {
                const __m512i levels = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(source + c)));
                return _mm512_maskz_sub_epi32(first_of(count - c), levels, zero_point);
            };
            __m512i sums = _mm512_setzero_si512();
            for (int c = 0; c < count; c += 16) sums = _mm512_add_epi32(sums, centred(c));
            const __m512i sum = _mm512_set1_epi32(_mm512_reduce_add_epi32(sums));
            const auto deviation = [&](int c) {
                return _mm512_maskz_sub_epi32(first_of(count - c), _mm512_mullo_epi32(size, centred(c)), sum);
            };
            __m512i squares = _mm512_setzero_si512();
            for (int c = 0; c < count; c += 16) {
                const __m512i d = deviation(c), odd = widen_odd(d);
                squares = _mm512_add_epi64(squares, _mm512_add_epi64(_mm512_mul_epi32(d, d), _mm512_mul_epi32(odd, odd)));
            }
            const int64_t spread = std::max<int64_t>((_mm512_reduce_add_epi64(squares) << 10) + s.constant, 1);
            const int power = (__builtin_clzll(uint64_t(spread)) - 2) / 2;  // the largest with spread·4^power < 2^62
            const int64_t root = square_root(spread << (2 * power));
            const Divisor by(2 * root);
            const __m128i scale = _mm_cvtsi32_si128(power + 36);
            const __m512i half = _mm512_set1_epi64(root);
            const auto normalized = [&](__m512i d, const int32_t *gamma, const int64_t *offset) {
                const __m512i unit = by.quotient(_mm512_add_epi64(_mm512_sll_epi64(d, scale), half));
                const __m512i factor = _mm512_cvtepi32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(gamma)));
                return _mm512_sra_epi64(_mm512_add_epi64(_mm512_mul_epi32(unit, factor), _mm512_loadu_si512(offset)), shift);
            };
            for (int c = 0; c < count; c += 16) {
                const __m512i d = deviation(c);
                store_clamped(s.requantize, normalized(low_half(d), s.bias + c, s.offset + c),
                              normalized(high_half(d), s.bias + c + 8, s.offset + c + 8), target + c, count - c);
            }
        }
}

}  // namespace
