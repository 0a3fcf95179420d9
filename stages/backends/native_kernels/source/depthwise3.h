// Depthwise 3 × 3 with float ratios, the common case: columns stay in registers from one output to the next, and
// levels leave in the order of channels without any reordering.
#pragma once
#include "requantize.h"

namespace {

// 64 channels in AVX-512 registers, or 32 in AVX2's: half the work where a block is no wider.
struct Full {
    using Int = __m512i;
    static constexpr int CHANNELS = 64;
    static Int load(const void *p) { return _mm512_loadu_si512(p); }
    static Int zero() { return _mm512_setzero_si512(); }
    static Int low8(Int a, Int b) { return _mm512_unpacklo_epi8(a, b); }
    static Int high8(Int a, Int b) { return _mm512_unpackhi_epi8(a, b); }
    static Int low16(Int a, Int b) { return _mm512_unpacklo_epi16(a, b); }
    static Int high16(Int a, Int b) { return _mm512_unpackhi_epi16(a, b); }
    static Int dot(Int acc, Int a, Int b) { return _mm512_dpbusd_epi32(acc, a, b); }
    static Int scaled(Int x, const float *ratio) {
        return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(x), _mm512_loadu_ps(ratio)));
    }
    // The first `vectors` of 16 levels.
    static void store(uint8_t *out, const Int *x, const Requantization &r, int vectors) {
        const Int zero_point = _mm512_set1_epi16(int16_t(r.zero_point));
        const Int low = _mm512_set1_epi8(int8_t(r.low + r.zero_point)), high = _mm512_set1_epi8(int8_t(r.high + r.zero_point));
        const Int a = _mm512_adds_epi16(_mm512_packs_epi32(x[0], x[1]), zero_point);
        const Int b = _mm512_adds_epi16(_mm512_packs_epi32(x[2], x[3]), zero_point);
        const Int levels = _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(a, b), low), high);
        if (vectors == 4) return _mm512_storeu_si512(out, levels);
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out), _mm512_castsi512_si256(levels));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out + 32), _mm512_extracti32x4_epi32(levels, 2));
    }
};

struct Half {
    using Int = __m256i;
    static constexpr int CHANNELS = 32;
    static Int load(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
    static Int zero() { return _mm256_setzero_si256(); }
    static Int low8(Int a, Int b) { return _mm256_unpacklo_epi8(a, b); }
    static Int high8(Int a, Int b) { return _mm256_unpackhi_epi8(a, b); }
    static Int low16(Int a, Int b) { return _mm256_unpacklo_epi16(a, b); }
    static Int high16(Int a, Int b) { return _mm256_unpackhi_epi16(a, b); }
    static Int dot(Int acc, Int a, Int b) { return _mm256_dpbusd_epi32(acc, a, b); }
    static Int scaled(Int x, const float *ratio) {
        return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(x), _mm256_loadu_ps(ratio)));
    }
    static void store(uint8_t *out, const Int *x, const Requantization &r, int vectors) {
        const Int zero_point = _mm256_set1_epi16(int16_t(r.zero_point));
        const Int low = _mm256_set1_epi8(int8_t(r.low + r.zero_point)), high = _mm256_set1_epi8(int8_t(r.high + r.zero_point));
        const Int a = _mm256_adds_epi16(_mm256_packs_epi32(x[0], x[1]), zero_point);
        const Int b = _mm256_adds_epi16(_mm256_packs_epi32(x[2], x[3]), zero_point);
        const Int levels = _mm256_min_epu8(_mm256_max_epu8(_mm256_packus_epi16(a, b), low), high);
        if (vectors == 2) return _mm256_storeu_si256(reinterpret_cast<Int *>(out), levels);
        _mm_storeu_si128(reinterpret_cast<__m128i *>(out), _mm256_castsi256_si128(levels));
    }
};

// What one block of channels needs, in the order of `interleave`.
struct Block {
    alignas(64) int32_t bias[4][16];
    alignas(64) float ratio[4][16];

    Block(const EngineStep &s, int channel) {
        for (int q = 0; q < 4; q++)
            for (int i = 0; i < 16; i++) {
                const int c = channel + 16 * (i / 4) + 4 * q + i % 4;
                bias[q][i] = s.bias[c], ratio[q][i] = s.requantize.ratio[c];
            }
    }
};

template <class V>
inline void load_column(const uint8_t *x, int64_t row, typename V::Int *out) {
    const typename V::Int a = V::load(x), b = V::load(x + row), c = V::load(x + 2 * row), zero = V::zero();
    typename V::Int ab = V::low8(a, b), c0 = V::low8(c, zero);
    out[0] = V::low16(ab, c0), out[1] = V::high16(ab, c0);
    ab = V::high8(a, b), c0 = V::high8(c, zero);
    out[2] = V::low16(ab, c0), out[3] = V::high16(ab, c0);
}

template <class V, int STRIDE>
void depthwise3_row(const uint8_t *x, int64_t row, int64_t pixel, const int8_t *weight, const Block &block, const Requantization &r,
                    uint8_t *out, int64_t out_stride, int width, int vectors) {
    typename V::Int w[3][4], columns[3][4];
    for (int i = 0; i < 3; i++)
        for (int q = 0; q < 4; q++) w[i][q] = V::load(weight + (i * 4 + q) * 64);
    for (int i = 0; i < 3 - STRIDE; i++, x += pixel) load_column<V>(x, row, columns[i]);
    for (int p = 0; p < width; p++, out += out_stride) {
        for (int i = 3 - STRIDE; i < 3; i++, x += pixel) load_column<V>(x, row, columns[i]);
        typename V::Int sum[4];
        for (int q = 0; q < 4; q++) {
            sum[q] = V::load(block.bias[q]);
            for (int i = 0; i < 3; i++) sum[q] = V::dot(sum[q], columns[i][q], w[i][q]);
            sum[q] = V::scaled(sum[q], block.ratio[q]);
        }
        V::store(out, sum, r, vectors);
        for (int i = 0; i < 3 - STRIDE; i++)
            for (int q = 0; q < 4; q++) columns[i][q] = columns[i + STRIDE][q];
    }
}

inline bool is_depthwise3(const EngineStep &s) {
    return s.kernel_h == 3 && s.kernel_w == 3 && s.passes == 1 && s.dilation_h == 1 && s.dilation_w == 1 && s.stride_w <= 2 &&
           s.residual < 0 && s.requantize.narrow;
}

// Vectors are whole where channels are not: pixels are so far apart.
inline void convolve_depthwise3(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const int8_t *weight = s.weight;
    for (int channel = 0; channel < s.channels; channel += 64, weight += 3 * 256) {
        const Block block(s, channel);
        const int vectors = std::min(4, (s.channels - channel + 15) / 16);
        const bool wide = vectors > 2;
        const auto row = wide ? (s.stride_w == 1 ? depthwise3_row<Full, 1> : depthwise3_row<Full, 2>)
                              : (s.stride_w == 1 ? depthwise3_row<Half, 1> : depthwise3_row<Half, 2>);
        for (int y = from; y < to; y++)
            row(in.at(arena, y * s.stride_h - s.pad_h, -s.pad_w) + channel, in.row(), in.stride, weight, block, s.requantize,
                out.at(arena, y, 0) + channel, out.stride, out.width, vectors);
    }
}

}  // namespace
