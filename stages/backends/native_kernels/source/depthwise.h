// Depthwise convolution: four rows of the kernel a dot product, 64 channels at a time.
#pragma once
#include "requantize.h"

namespace {

constexpr int DEPTHWISE_PIXELS = 16, DEPTHWISE_COLUMNS = 128, DEPTHWISE_GROUPS = 2;

// Bytes of 64 channels from four rows to dwords (row 0, …, row 3). Vector q holds in its 128-bit lane L the
// channels 16·L + 4·q .. + 3.
inline void interleave(__m512i a, __m512i b, __m512i c, __m512i d, __m512i *out) {
    __m512i ab = _mm512_unpacklo_epi8(a, b), cd = _mm512_unpacklo_epi8(c, d);
    out[0] = _mm512_unpacklo_epi16(ab, cd), out[1] = _mm512_unpackhi_epi16(ab, cd);
    ab = _mm512_unpackhi_epi8(a, b), cd = _mm512_unpackhi_epi8(c, d);
    out[2] = _mm512_unpacklo_epi16(ab, cd), out[3] = _mm512_unpackhi_epi16(ab, cd);
}

// Back to the order of channels: a 4 × 4 transposition of 128-bit lanes.
inline void order(const __m512i *q, __m512i *out) {
    __m512i a = _mm512_shuffle_i32x4(q[0], q[1], 0x44), b = _mm512_shuffle_i32x4(q[2], q[3], 0x44);
    __m512i c = _mm512_shuffle_i32x4(q[0], q[1], 0xEE), d = _mm512_shuffle_i32x4(q[2], q[3], 0xEE);
    out[0] = _mm512_shuffle_i32x4(a, b, 0x88), out[1] = _mm512_shuffle_i32x4(a, b, 0xDD);
    out[2] = _mm512_shuffle_i32x4(c, d, 0x88), out[3] = _mm512_shuffle_i32x4(c, d, 0xDD);
}

// Output rows `from` .. `to` − 1. The planner takes kernels of at most 4·DEPTHWISE_GROUPS rows, whose windows of
// one tile span at most DEPTHWISE_COLUMNS columns.
inline void convolve_depthwise(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *residual = s.residual < 0 ? nullptr : &images[s.residual];
    const int groups = (s.kernel_h + 3) / 4;
    alignas(64) static thread_local __m512i columns[DEPTHWISE_COLUMNS * DEPTHWISE_GROUPS * 4];
    alignas(64) int32_t acc[DEPTHWISE_PIXELS * 64];
    const int8_t *weight = s.weight;
    for (int channel = 0; channel < s.channels; channel += 64, weight += 256 * s.passes * groups * s.kernel_w) {
        const int count = s.channels - channel < 64 ? s.channels - channel : 64;
        const __mmask64 mask = count == 64 ? ~__mmask64(0) : (__mmask64(1) << count) - 1;
        const __m512i *w = reinterpret_cast<const __m512i *>(weight);
        for (int y = from; y < to; y++) {
            for (int first = 0; first < out.width; first += s.pixels) {
                const int pixels = out.width - first < s.pixels ? out.width - first : s.pixels;
                const int width = (pixels - 1) * s.stride_w + (s.kernel_w - 1) * s.dilation_w + 1;
                const uint8_t *corner = in.at(arena, y * s.stride_h - s.pad_h, first * s.stride_w - s.pad_w) + channel;
                for (int x = 0; x < width; x++)
                    for (int g = 0; g < groups; g++) {
                        __m512i rows[4];
                        for (int i = 0; i < 4; i++)
                            rows[i] = 4 * g + i < s.kernel_h
                                          ? _mm512_maskz_loadu_epi8(mask, corner + (4 * g + i) * s.dilation_h * in.row() + int64_t(x) * in.stride)
                                          : _mm512_setzero_si512();
                        interleave(rows[0], rows[1], rows[2], rows[3], columns + (x * groups + g) * 4);
                    }
                for (int p = 0; p < pixels; p++) {
                    __m512i total[4] = {}, ordered[4];
                    const __m512i *taps = w;
                    for (int pass = 0; pass < s.passes; pass++)
                        for (int x = 0; x < s.kernel_w; x++) {
                            const __m512i *column = columns + (p * s.stride_w + x * s.dilation_w) * groups * 4;
                            for (int g = 0; g < groups; g++, taps += 4, column += 4)
                                for (int q = 0; q < 4; q++) total[q] = _mm512_dpbusd_epi32(total[q], column[q], _mm512_loadu_si512(taps + q));
                        }
                    order(total, ordered);
                    for (int q = 0; q < 4; q++)
                        _mm512_store_si512(acc + p * 64 + 16 * q, _mm512_add_epi32(ordered[q], _mm512_loadu_si512(s.bias + channel + 16 * q)));
                }
                uint8_t *target = out.at(arena, y, first) + channel;
                const Tile tile = {acc, pixels, 4, channel, s.channels, out.stride - channel, target, out.stride,
                                   residual ? residual->at(arena, y, first) + channel : nullptr, residual ? residual->stride : 0};
                finish(s.requantize, s.term, tile);
            }
        }
    }
}

}  // namespace
