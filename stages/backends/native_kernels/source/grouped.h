// Convolutions in groups of channels: one step for all of them.
#pragma once
#include "panel.h"

namespace {

constexpr int64_t BAND_BYTES = 1 << 18;  // of the source, which stays in cache while all groups pass

// Groups `first` .. `last` − 1 of `count` (or of several joined, whose weights are 0 between them), one after the other:
// each has `target_channels` outputs, and weights and constants for as many as fill vectors. What whole vectors write
// beyond a group's channels the next one writes over.
inline void convolve_units(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to, int first, int last) {
    const int vectors = (s.target_channels + 15) / 16;
    const int64_t dwords = int64_t(s.kernel_h) * s.kernel_w * s.channels / 4, padded = 16 * vectors;
    const int band = int(std::max<int64_t>(1, BAND_BYTES / (s.stride_h * images[s.source].row())));
    EngineStep one = s;
    Requantization &r = one.requantize;
    for (int y = from; y < to; y += band)
        for (int unit = first; unit < last; unit++) {
            const int64_t at = unit * padded;
            one.source_channel = unit * s.sum_channels, one.target_channel = unit * s.target_channels;
            one.weight = s.weight + at * dwords * (s.nibbles ? 2 : 4), one.bias = s.bias + at;
            r.ratio = s.requantize.ratio + at, r.multiplier = s.requantize.multiplier + at, r.left = s.requantize.left + at;
            r.nudge = s.requantize.nudge + at, r.carry = s.requantize.carry + at, r.right = s.requantize.right + at;
            if (r.weight_zero_point) r.weight_zero_point = s.requantize.weight_zero_point + at;
            if (s.order) one.order = s.order + unit * 2 * vectors * dwords, one.pairs = s.pairs + unit * vectors, one.panel_bias = s.panel_bias + at;
            convolve_best(one, images, arena, y, std::min(to, y + band), 0, s.target_channels);
        }
}

// PIXELS accumulators of sixteen channels: `table` says for each dword of a group's window which of 16 bytes each lane reads.
// Where three neighbouring columns are multiplied, at a STRIDE, neighbours share their levels; STRIDE 0 is any window.
template <int PIXELS, End END, int STRIDE>
void accumulate_lanes(const EngineStep &s, const Window &window, const uint8_t *x, int64_t pixel_step, const int8_t *weight, const Tile &tile) {
    Int sum[PIXELS][1];
#pragma GCC unroll 16
    for (int p = 0; p < PIXELS; p++) sum[p][0] = load(s.bias + tile.channel);
    for (int row = 0; row < window.rows; row++)
        for (int run = 0; run < (STRIDE ? 1 : window.runs); run++) {
            const uint8_t *start = x + row * window.row_step + run * window.run_step;
            for (int k = 0; k < window.dwords; k++, weight += 64) {
                const Int places = load(s.table + 64 * k);
                if (STRIDE) {
                    Weights w[3];
#pragma GCC unroll 3
                    for (int j = 0; j < 3; j++) w[j] = load_weights(weight + 64 * j * window.dwords);
#pragma GCC unroll 18
                    for (int column = 0; column < (PIXELS - 1) * STRIDE + 3; column++) {
                        const Int levels = spread(load_sixteen(start + column * window.run_step), places);
#pragma GCC unroll 3
                        for (int j = 0; j < 3; j++) {
                            const int p = (column - j) / std::max(STRIDE, 1);
                            if (column >= j && p * STRIDE == column - j && p < PIXELS) sum[p][0] = dot_each(sum[p][0], levels, w[j]);
                        }
                    }
                } else {
                    const Weights w = load_weights(weight);
#pragma GCC unroll 16
                    for (int p = 0; p < PIXELS; p++) sum[p][0] = dot_each(sum[p][0], spread(load_sixteen(start + p * pixel_step), places), w);
                }
            }
            if (STRIDE) weight += 128 * window.dwords;
        }
    if (END == End::STORED) {
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; p++) store(tile.acc + 16 * p, sum[p][0]);
    } else {
        finish_packed<1, PIXELS, END == End::PACKED_WITH_RESIDUAL>(sum, s.requantize, s.term, tile);
    }
}

using AccumulateLanes = decltype(&accumulate_lanes<1, End::STORED, 0>);

template <End END, int STRIDE, int... P>
constexpr AccumulateLanes pick_lanes(int pixels, std::integer_sequence<int, P...>) {
    constexpr AccumulateLanes of[] = {accumulate_lanes<P + 1, END, STRIDE>...};
    return of[pixels - 1];
}

template <int STRIDE>
AccumulateLanes lanes_accumulator_at(End end, int pixels) {
    constexpr auto all = std::make_integer_sequence<int, most_pixels(1)>();
    switch (end) {
        case End::PACKED: return pick_lanes<End::PACKED, STRIDE>(pixels, all);
        case End::PACKED_WITH_RESIDUAL: return pick_lanes<End::PACKED_WITH_RESIDUAL, STRIDE>(pixels, all);
        default: return pick_lanes<End::STORED, STRIDE>(pixels, all);
    }
}

inline AccumulateLanes lanes_accumulator(const EngineStep &s, End end, int pixels) {
    const bool three = s.kernel_w == 3 && s.dilation_w == 1;
    return (three && s.stride_w == 1 ? lanes_accumulator_at<1> : three && s.stride_w == 2 ? lanes_accumulator_at<2> : lanes_accumulator_at<0>)(end, pixels);
}

// Output rows `from` .. `to` − 1, where sixteen output channels read no more than 16 input channels, `sum_channels` by
// `sum_channels`: each lane is multiplied with its own group's levels.
inline void convolve_lanes(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *residual = s.residual < 0 ? nullptr : &images[s.residual];
    const Window window = {s.kernel_h, s.kernel_w, s.channels / 4, s.dilation_h * in.row(), int64_t(s.dilation_w) * in.stride};
    const int64_t weight_bytes = int64_t(64) * window.rows * window.runs * window.dwords, pixel_step = int64_t(s.stride_w) * in.stride;
    const int tiles = (out.width + most_pixels(1) - 1) / most_pixels(1), most = (out.width + tiles - 1) / tiles;
    const End end = !s.requantize.narrow ? End::STORED : residual ? End::PACKED_WITH_RESIDUAL : End::PACKED;
    const AccumulateLanes wide = lanes_accumulator(s, end, most);
    alignas(64) int32_t acc[most_pixels(1) * 16];
    for (int y = from; y < to; y++)
        for (int vector = 0; 16 * vector < s.target_channels; vector++) {
            const int channel = 16 * vector;
            Tile tile = {acc, 0, 1, channel, s.target_channels, out.stride / out.size - channel, out.at(arena, y, 0) + channel * out.size, out.stride, nullptr, 0,
                         out.size, residual ? residual->size : 1};
            if (residual) tile.residual = residual->at(arena, y, 0) + channel * residual->size, tile.residual_stride = residual->stride;
            const uint8_t *x = in.at(arena, y * s.stride_h - s.pad_h, -s.pad_w) + vector * s.sum_channels;
            for (int column = 0; column < out.width; column += most) {
                tile.pixels = std::min(most, out.width - column);
                const AccumulateLanes each = tile.pixels == most ? wide : lanes_accumulator(s, end, tile.pixels);
                each(s, window, x, pixel_step, s.weight + vector * weight_bytes, tile);
                if (end == End::STORED) finish(s.requantize, s.term, tile);
                x += most * pixel_step, tile.out += most * tile.out_stride, tile.residual += most * tile.residual_stride;
            }
        }
}

}  // namespace
