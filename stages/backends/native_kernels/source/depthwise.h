// Depthwise convolution: four rows of the kernel a dot product, 64 channels at a time.
#pragma once
#include "requantize.h"

namespace {

constexpr int DEPTHWISE_PIXELS = 16, DEPTHWISE_COLUMNS = 128, DEPTHWISE_GROUPS = 2;

// Bytes of 64 channels from four rows to dwords (row 0, …, row 3). Vector q holds in its 128-bit lane L the
// channels 16·L + 4·q .. + 3.
inline void interleave(Int a, Int b, Int c, Int d, Int *out) {
    const Int low[2] = {zip8_low(a, b), zip8_low(c, d)}, high[2] = {zip8_high(a, b), zip8_high(c, d)};
    out[0] = zip16_low(low[0], low[1]), out[1] = zip16_high(low[0], low[1]);
    out[2] = zip16_low(high[0], high[1]), out[3] = zip16_high(high[0], high[1]);
}

// Output rows `from` .. `to` − 1. The planner takes kernels of at most 4·DEPTHWISE_GROUPS rows, whose windows of
// one tile span at most DEPTHWISE_COLUMNS columns.
inline void convolve_depthwise(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *residual = s.residual < 0 ? nullptr : &images[s.residual];
    const int groups = (s.kernel_h + 3) / 4;
    alignas(64) static thread_local Int columns[DEPTHWISE_COLUMNS * DEPTHWISE_GROUPS * 4];
    alignas(64) int32_t acc[DEPTHWISE_PIXELS * 64];
    const int8_t *weight = s.weight;
    for (int channel = 0; channel < s.channels; channel += 64, weight += 256 * s.passes * groups * s.kernel_w) {
        const int count = s.channels - channel < 64 ? s.channels - channel : 64;
        for (int y = from; y < to; y++) {
            for (int first = 0; first < out.width; first += s.pixels) {
                const int pixels = out.width - first < s.pixels ? out.width - first : s.pixels;
                const int width = (pixels - 1) * s.stride_w + (s.kernel_w - 1) * s.dilation_w + 1;
                const uint8_t *corner = in.at(arena, y * s.stride_h - s.pad_h, first * s.stride_w - s.pad_w) + channel;
                for (int x = 0; x < width; x++)
                    for (int g = 0; g < groups; g++) {
                        Int rows[4];
                        for (int i = 0; i < 4; i++)
                            rows[i] = 4 * g + i < s.kernel_h
                                          ? load_some(corner + (4 * g + i) * s.dilation_h * in.row() + int64_t(x) * in.stride, count)
                                          : fill(0);
                        interleave(rows[0], rows[1], rows[2], rows[3], columns + (x * groups + g) * 4);
                    }
                for (int p = 0; p < pixels; p++) {
                    Int total[4] = {fill(0), fill(0), fill(0), fill(0)}, ordered[4];
                    const int8_t *taps = weight;
                    for (int pass = 0; pass < s.passes; pass++)
                        for (int x = 0; x < s.kernel_w; x++) {
                            const Int *column = columns + (p * s.stride_w + x * s.dilation_w) * groups * 4;
                            for (int g = 0; g < groups; g++, taps += 256, column += 4)
                                for (int q = 0; q < 4; q++) total[q] = dot_each(total[q], column[q], load_weights(taps + 64 * q));
                        }
                    transpose_quarters(total, ordered);
                    for (int q = 0; q < 4; q++) store(acc + p * 64 + 16 * q, add(ordered[q], load(s.bias + channel + 16 * q)));
                }
                uint8_t *target = out.at(arena, y, first) + int64_t(channel) * out.size;
                const uint8_t *added = residual ? residual->at(arena, y, first) + int64_t(channel) * residual->size : nullptr;
                const Tile tile = {acc, pixels, 4, channel, s.channels, out.stride / out.size - channel, target, out.stride,
                                   added, residual ? residual->stride : 0, out.size, residual ? residual->size : 1};
                finish(s.requantize, s.term, tile);
            }
        }
    }
}

}  // namespace
