// Depthwise convolution: four rows of the kernel a dot product, 64 channels at a time.
#pragma once
#include "requantize.h"

namespace {

constexpr int DEPTHWISE_PIXELS = 16, DEPTHWISE_COLUMNS = 128, DEPTHWISE_GROUPS = 2;

// What one block of channels needs, in the order of `interleave`.
struct Block {
    alignas(64) int32_t bias[4][16];
    alignas(64) float ratio[4][16];

    Block(const EngineStep &s, int channel) {
        for (int q = 0; q < 4; q++)
            for (int i = 0; i < 16; i++) {
                const int c = channel + 16 * (i / 4) + 4 * q + i % 4;
                bias[q][i] = s.bias[c], ratio[q][i] = s.requantize.ratio ? s.requantize.ratio[c] : 0.0f;
            }
    }
};

// Sums of one quarter of 64 channels for a tile's pixels: COLUMNS·GROUPS taps stay in registers, and levels are loaded
// once a product. `columns` holds the quarter's dwords (column, group), `taps` lie 256 bytes apart.
template <int COLUMNS, int GROUPS>
void depthwise_quarter(const Int *columns, int step, int dilation, const int8_t *taps, Int *sums, int pixels) {
    Weights w[COLUMNS * GROUPS];
#pragma GCC unroll 16
    for (int i = 0; i < COLUMNS * GROUPS; i++) w[i] = load_weights(taps + 256 * i);
    for (int p = 0; p < pixels; p++, columns += step * GROUPS) {
        Int sum = sums[p];
#pragma GCC unroll 8
        for (int x = 0; x < COLUMNS; x++)
#pragma GCC unroll 2
            for (int g = 0; g < GROUPS; g++) sum = dot_each(sum, columns[x * dilation * GROUPS + g], w[x * GROUPS + g]);
        sums[p] = sum;
    }
}

// The same for windows of any width.
template <int GROUPS>
void depthwise_quarter_of(int width, const Int *columns, int step, int dilation, const int8_t *taps, Int *sums, int pixels) {
    for (int p = 0; p < pixels; p++, columns += step * GROUPS)
        for (int x = 0; x < width; x++)
            for (int g = 0; g < GROUPS; g++)
                sums[p] = dot_each(sums[p], columns[x * dilation * GROUPS + g], load_weights(taps + 256 * (x * GROUPS + g)));
}

template <int GROUPS>
void depthwise_sums(const EngineStep &s, const Int *columns, const int8_t *taps, Int *sums, int pixels) {
    switch (s.kernel_w) {
        case 3: return depthwise_quarter<3, GROUPS>(columns, s.stride_w, s.dilation_w, taps, sums, pixels);
        case 5: return depthwise_quarter<5, GROUPS>(columns, s.stride_w, s.dilation_w, taps, sums, pixels);
        case 7: return depthwise_quarter<7, GROUPS>(columns, s.stride_w, s.dilation_w, taps, sums, pixels);
        default: return depthwise_quarter_of<GROUPS>(s.kernel_w, columns, s.stride_w, s.dilation_w, taps, sums, pixels);
    }
}

// The windows of a tile as dwords of four rows: for each quarter of 64 channels (column, group).
template <int GROUPS>
void interleave_columns(const EngineStep &s, const Image &in, const uint8_t *corner, int width, int count, Int *columns) {
    const int64_t row = int64_t(s.dilation_h) * in.row();
    for (int x = 0; x < width; x++, corner += in.stride)
        for (int g = 0; g < GROUPS; g++) {
            Int rows[4], out[4];
            for (int i = 0; i < 4; i++) rows[i] = 4 * g + i < s.kernel_h ? load_some(corner + (4 * g + i) * row, count) : fill(0);
            interleave(rows[0], rows[1], rows[2], rows[3], out);
            for (int q = 0; q < 4; q++) columns[q * DEPTHWISE_COLUMNS * GROUPS + x * GROUPS + g] = out[q];
        }
}

// Output rows `from` .. `to` − 1. The planner takes kernels of at most 4·DEPTHWISE_GROUPS rows, whose windows of
// one tile span at most DEPTHWISE_COLUMNS columns.
template <int GROUPS>
void convolve_depthwise_of(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *residual = s.residual < 0 ? nullptr : &images[s.residual];
    alignas(64) static thread_local Int columns[4 * DEPTHWISE_COLUMNS * GROUPS];
    alignas(64) int32_t acc[DEPTHWISE_PIXELS * 64];
    const bool packed = s.requantize.narrow && !residual;
    const Packing bounds = packing(s.requantize);
    const int8_t *weight = s.weight;
    for (int channel = 0; channel < s.channels; channel += 64, weight += 256 * s.passes * GROUPS * s.kernel_w) {
        const int count = std::min(64, s.channels - channel);
        const Block block(s, channel);
        for (int y = from; y < to; y++) {
            for (int first = 0; first < out.width; first += s.pixels) {
                const int pixels = std::min(s.pixels, out.width - first);
                const int width = (pixels - 1) * s.stride_w + (s.kernel_w - 1) * s.dilation_w + 1;
                const uint8_t *corner = in.at(arena, y * s.stride_h - s.pad_h, first * s.stride_w - s.pad_w) + channel;
                interleave_columns<GROUPS>(s, in, corner, width, count, columns);
                Int sums[4][DEPTHWISE_PIXELS];
                for (int q = 0; q < 4; q++) {
                    for (int p = 0; p < pixels; p++) sums[q][p] = load(block.bias[q]);
                    for (int pass = 0; pass < s.passes; pass++)
                        depthwise_sums<GROUPS>(s, columns + q * DEPTHWISE_COLUMNS * GROUPS, weight + 256 * pass * GROUPS * s.kernel_w + 64 * q, sums[q], pixels);
                }
                uint8_t *target = out.at(arena, y, first) + int64_t(channel) * out.size;
                if (packed) {  // as 128-bit lanes hold channels, packing puts them in order
                    Float ratio[4];
                    for (int q = 0; q < 4; q++) ratio[q] = load_floats(block.ratio[q]);
                    for (int p = 0; p < pixels; p++, target += out.stride) {
                        Int levels[4];
                        for (int q = 0; q < 4; q++) levels[q] = rounded(times(floats(sums[q][p]), ratio[q]));
                        store_sixteens(target, pack_lanes(bounds, levels[0], levels[1], levels[2], levels[3]), count);
                    }
                    continue;
                }
                for (int p = 0; p < pixels; p++) {
                    const Int total[4] = {sums[0][p], sums[1][p], sums[2][p], sums[3][p]};
                    Int ordered[4];
                    transpose_quarters(total, ordered);
                    for (int q = 0; q < 4; q++) store(acc + p * 64 + 16 * q, ordered[q]);
                }
                const uint8_t *added = residual ? residual->at(arena, y, first) + int64_t(channel) * residual->size : nullptr;
                const Tile tile = {acc, pixels, 4, channel, s.channels, out.stride / out.size - channel, target, out.stride,
                                   added, residual ? residual->stride : 0, out.size, residual ? residual->size : 1};
                finish(s.requantize, s.term, tile);
            }
        }
    }
}

inline void convolve_depthwise(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.kernel_h <= 4 ? convolve_depthwise_of<1> : convolve_depthwise_of<DEPTHWISE_GROUPS>)(s, images, arena, from, to);
}

}  // namespace
