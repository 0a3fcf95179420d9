// Convolution: pixels times 16-channel vectors of accumulators in registers, four channels a dot product.
#pragma once
#include <cstring>
#include <utility>
#include "requantize.h"

namespace {


// Where a tile's window lies: rows of the kernel, runs of consecutive bytes in a row, dwords in a run.
struct Window {
    int rows, runs, dwords;
    int64_t row_step, run_step;
};

inline __m512i dword(const uint8_t *p) {
    int32_t value;
    std::memcpy(&value, p, 4);
    return _mm512_set1_epi32(value);
}

// What becomes of a tile's accumulators: they go to memory, or are finished in registers.
enum class End { STORED, PACKED, PACKED_WITH_RESIDUAL };

// `sums`: Σ qx of each pixel's window where weights have zero points, else null.
template <int VECTORS, int PIXELS, End END>
void accumulate(const EngineStep &s, const Window &window, const uint8_t *x, int64_t pixel_step, const int8_t *weight, const int32_t *sums,
                const Tile &tile) {
    __m512i sum[PIXELS][VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
        const __m512i bias = _mm512_loadu_si512(s.bias + tile.channel + 16 * v);
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; p++) sum[p][v] = bias;
    }
    for (int row = 0; row < window.rows; row++) {
        for (int run = 0; run < window.runs; run++) {
            const uint8_t *start = x + row * window.row_step + run * window.run_step;
            for (int k = 0; k < window.dwords; k++) {
                __m512i w[VECTORS];
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) w[v] = _mm512_loadu_si512(weight + 64 * v);
#pragma GCC unroll 16
                for (int p = 0; p < PIXELS; p++) {
                    const __m512i four = dword(start + p * pixel_step);
#pragma GCC unroll 4
                    for (int v = 0; v < VECTORS; v++) sum[p][v] = _mm512_dpbusd_epi32(sum[p][v], four, w[v]);
                }
                start += 4, weight += 64 * VECTORS;
            }
        }
    }
    if (sums) {  // takes zw·Σ qx away
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            const __m512i zero_point = _mm512_loadu_si512(s.requantize.weight_zero_point + tile.channel + 16 * v);
#pragma GCC unroll 16
            for (int p = 0; p < PIXELS; p++)
                sum[p][v] = _mm512_sub_epi32(sum[p][v], _mm512_mullo_epi32(zero_point, _mm512_set1_epi32(sums[p])));
        }
    }
    if (END == End::STORED) {
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; p++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) _mm512_storeu_si512(tile.acc + (p * VECTORS + v) * 16, sum[p][v]);
    } else {
        finish_packed<VECTORS, PIXELS, END == End::PACKED_WITH_RESIDUAL>(sum, s.requantize, s.term, tile);
    }
}

using Accumulate = decltype(&accumulate<1, 1, End::STORED>);

template <int VECTORS, End END, int... P>
constexpr Accumulate pick(int pixels, std::integer_sequence<int, P...>) {
    constexpr Accumulate of[] = {accumulate<VECTORS, P + 1, END>...};
    return of[pixels - 1];
}

// Tiles hold at most 24 accumulators: more leave no registers for the operands. With one vector smaller ones are
// faster, whose last steps overlap with the next tile's products.
constexpr int most_pixels(int vectors) { return vectors == 1 ? 8 : vectors == 2 ? 12 : 6; }

template <End END>
Accumulate accumulator_to(int vectors, int pixels) {
    switch (vectors) {
        case 1: return pick<1, END>(pixels, std::make_integer_sequence<int, most_pixels(1)>());
        case 2: return pick<2, END>(pixels, std::make_integer_sequence<int, most_pixels(2)>());
        default: return pick<4, END>(pixels, std::make_integer_sequence<int, most_pixels(4)>());
    }
}

constexpr int MOST_PIXELS = most_pixels(2);

inline Accumulate accumulator(End end, int vectors, int pixels) {
    switch (end) {
        case End::PACKED: return accumulator_to<End::PACKED>(vectors, pixels);
        case End::PACKED_WITH_RESIDUAL: return accumulator_to<End::PACKED_WITH_RESIDUAL>(vectors, pixels);
        default: return accumulator_to<End::STORED>(vectors, pixels);
    }
}

// Σ qx over a window with `bytes` of levels in a run.
inline int32_t window_sum(const uint8_t *x, const Window &window, int bytes) {
    __m512i total = _mm512_setzero_si512();
    for (int row = 0; row < window.rows; row++)
        for (int run = 0; run < window.runs; run++) {
            const uint8_t *start = x + row * window.row_step + run * window.run_step;
            for (int byte = 0; byte < bytes; byte += 64) {
                const __mmask64 mask = bytes - byte >= 64 ? ~__mmask64(0) : (__mmask64(1) << (bytes - byte)) - 1;
                const __m512i channels = _mm512_maskz_loadu_epi8(mask, start + byte);
                total = _mm512_add_epi64(total, _mm512_sad_epu8(channels, _mm512_setzero_si512()));
            }
        }
    return int32_t(_mm512_reduce_add_epi64(total));
}

constexpr int CHANNELS = 64;  // of a block; those at the end are 64, 32 or 16 wide

// Output rows `from` .. `to` − 1 of the channels `first` (a multiple of a block) .. `last` − 1.
inline void convolve(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to, int first, int last) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *residual = s.residual < 0 ? nullptr : &images[s.residual];
    const bool joined = s.dilation_w == 1 && s.channels == in.stride;  // a row of the kernel is one run
    const Window window = {s.kernel_h, joined ? 1 : s.kernel_w, (joined ? s.kernel_w : 1) * s.channels / 4,
                           s.dilation_h * in.row(), int64_t(s.dilation_w) * in.stride};
    const bool dense = joined && s.sum_channels == s.channels;  // and all of its bytes are levels
    const Window summed = {s.kernel_h, dense ? 1 : s.kernel_w, 0, window.row_step, window.run_step};
    const int run_bytes = (dense ? s.kernel_w : 1) * s.sum_channels;
    const int64_t pixel_step = int64_t(s.stride_w) * in.stride;
    const int64_t weight_bytes = int64_t(64) * window.rows * window.runs * window.dwords;  // of 16 output channels
    // Rows without borders on either side join into one.
    const bool flat = s.kernel_h * s.kernel_w == 1 && s.stride_h * s.stride_w == 1 && !s.pad_h && !s.pad_w && !in.border_w &&
                      !out.border_w && (!residual || !residual->border_w);
    const int width = flat ? out.width * (to - from) : out.width, rows = flat ? from + 1 : to;
    const int end = (last + 15) / 16;  // in vectors of output channels
    alignas(64) int32_t acc[24 * 16];
    int32_t of_windows[MOST_PIXELS], *sums = s.requantize.weight_zero_point ? of_windows : nullptr;
    for (int vector = first / 16, vectors; vector < end; vector += vectors) {
        vectors = end - vector >= 4 ? 4 : end - vector >= 2 ? 2 : 1;
        const int channel = 16 * vector;
        const int8_t *weight = s.weight + vector * weight_bytes;
        const int tiles = (width + most_pixels(vectors) - 1) / most_pixels(vectors), most = (width + tiles - 1) / tiles;
        Tile tile = {acc, 0, vectors, channel, s.target_channels, s.target_channel ? 0 : out.stride - channel, nullptr, out.stride, nullptr, 0};
        const bool packed = s.requantize.narrow && tile.whole(vectors - 1);
        const End end = !packed ? End::STORED : residual ? End::PACKED_WITH_RESIDUAL : End::PACKED;
        const Accumulate wide = accumulator(end, vectors, most);
        for (int y = from; y < rows; y++) {
            const uint8_t *x = in.at(arena, y * s.stride_h - s.pad_h, -s.pad_w) + s.source_channel;
            tile.out = out.at(arena, y, 0) + s.target_channel + channel;
            if (residual) tile.residual = residual->at(arena, y, 0) + s.target_channel + channel, tile.residual_stride = residual->stride;
            for (int column = 0; column < width; column += most) {
                tile.pixels = std::min(most, width - column);
                if (sums)
                    for (int p = 0; p < tile.pixels; p++) sums[p] = window_sum(x + p * pixel_step, summed, run_bytes);
                const Accumulate each = tile.pixels == most ? wide : accumulator(end, vectors, tile.pixels);
                each(s, window, x, pixel_step, weight, sums, tile);
                if (!packed) finish(s.requantize, s.term, tile);
                x += most * pixel_step, tile.out += most * tile.out_stride;
                if (residual) tile.residual += most * tile.residual_stride;
            }
        }
    }
}

}  // namespace
