// Convolution: pixels times 16-channel vectors of accumulators in registers, four channels a dot product.
#pragma once
#include <cstring>
#include <utility>
#include "window_sums.h"

namespace {

// Where a tile's window lies: rows of the kernel, runs of consecutive bytes in a row, dwords in a run.
struct Window {
    int rows, runs, dwords;
    int64_t row_step, run_step;
    int64_t weight_step = 0;  // bytes of weights from one dword to the next
    int64_t ahead = 0;        // bytes to weights that are needed later, and called into the cache
};

// What becomes of a tile's accumulators: they go to memory, or are finished in registers.
enum class End { STORED, PACKED, PACKED_WITH_RESIDUAL };

// What a dword of levels is multiplied with: four weights of 8 bits, …
struct Fours {
    static constexpr bool NIBBLES = false;
    using Held = Weights;
    static Held load(const void *p) { return load_weights(p); }
    static Four levels(const uint8_t *p) { return four(p); }
    static Int add(Int sum, Four x, const Held &w) { return dot(sum, x, w); }
};
// … or of 4 bits, …
struct ByNibbles : Fours {
    static constexpr bool NIBBLES = true;
};
// … or, where levels have 16 bits, two weights of 16: the instruction set's `Twos`, if it is faster.

// `sums`: Σ qx of each pixel's window where weights have zero points, else null.
template <int VECTORS, int PIXELS, End END, class PRODUCT = Fours>
void accumulate(const EngineStep &s, const Window &window, const uint8_t *x, int64_t pixel_step, const int8_t *weight, const int32_t *sums,
                const Tile &tile) {
    Int sum[PIXELS][VECTORS];
    const int64_t weight_step = MOST_VECTORS == 4 ? 64 * VECTORS : window.weight_step;
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
        const Int bias = load(s.bias + tile.channel + 16 * v);
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; p++) sum[p][v] = bias;
    }
    for (int row = 0; row < window.rows; row++) {
        for (int run = 0; run < window.runs; run++) {
            const uint8_t *start = x + row * window.row_step + run * window.run_step;
            for (int k = 0; PRODUCT::NIBBLES && k < window.dwords; k += 2) {  // one vector's weights at a time: taken apart they are many
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) {
                    const Nibbles w = load_nibbles(weight + 64 * v);
#pragma GCC unroll 16
                    for (int p = 0; p < PIXELS; p++) sum[p][v] = dot_nibbles(sum[p][v], start + p * pixel_step, w);
                }
                start += 8, weight += weight_step;
            }
            for (int k = 0; !PRODUCT::NIBBLES && k < window.dwords; k++) {
                typename PRODUCT::Held w[VECTORS];
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; v++) w[v] = PRODUCT::load(weight + 64 * v);
                if (PIXELS > 2) __builtin_prefetch(weight + window.ahead, 0, 2);
#pragma GCC unroll 16
                for (int p = 0; p < PIXELS; p++) {
                    const auto levels = PRODUCT::levels(start + p * pixel_step);
#pragma GCC unroll 4
                    for (int v = 0; v < VECTORS; v++) sum[p][v] = PRODUCT::add(sum[p][v], levels, w[v]);
                }
                start += 4, weight += weight_step;
            }
        }
    }
    if (sums) {  // takes zw·Σ qx away
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            const Int zero_point = load(s.requantize.weight_zero_point + tile.channel + 16 * v);
#pragma GCC unroll 16
            for (int p = 0; p < PIXELS; p++) sum[p][v] = subtract(sum[p][v], multiply(zero_point, broadcast(sums[p])));
        }
    }
    if (END == End::STORED) {
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; p++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) store(tile.acc + (p * VECTORS + v) * 16, sum[p][v]);
    } else {
        finish_packed<VECTORS, PIXELS, END == End::PACKED_WITH_RESIDUAL>(sum, s.requantize, s.term, tile);
    }
}

using Accumulate = decltype(&accumulate<1, 1, End::STORED>);

template <int VECTORS, End END, class PRODUCT, int... P>
constexpr Accumulate pick(int pixels, std::integer_sequence<int, P...>) {
    constexpr Accumulate of[] = {accumulate<VECTORS, P + 1, END, PRODUCT>...};
    return of[pixels - 1];
}

template <End END, class PRODUCT>
Accumulate accumulator_to(int vectors, int pixels) {
    switch (vectors) {
        case 1: return pick<1, END, PRODUCT>(pixels, std::make_integer_sequence<int, most_pixels(1)>());
        case 2: return pick<std::min(2, MOST_VECTORS), END, PRODUCT>(pixels, std::make_integer_sequence<int, most_pixels(std::min(2, MOST_VECTORS))>());
        default: return pick<MOST_VECTORS, END, PRODUCT>(pixels, std::make_integer_sequence<int, most_pixels(MOST_VECTORS)>());
    }
}

template <class PRODUCT>
Accumulate accumulator(End end, int vectors, int pixels) {
    switch (end) {
        case End::PACKED: return accumulator_to<End::PACKED, PRODUCT>(vectors, pixels);
        case End::PACKED_WITH_RESIDUAL: return accumulator_to<End::PACKED_WITH_RESIDUAL, PRODUCT>(vectors, pixels);
        default: return accumulator_to<End::STORED, PRODUCT>(vectors, pixels);
    }
}

// Where a convolution's windows lie, and its weights.
struct Geometry {
    Window window;
    int64_t weight_bytes;  // of 16 output channels

    Geometry(const EngineStep &s, const Image &in) {
        const int bytes = s.channels * in.size;
        const bool joined = s.dilation_w == 1 && bytes == in.stride;  // a row of the kernel is one run
        window = {s.kernel_h, joined ? 1 : s.kernel_w, (joined ? s.kernel_w : 1) * bytes / 4, s.dilation_h * in.row(),
                  int64_t(s.dilation_w) * in.stride};
        weight_bytes = int64_t(s.nibbles ? 32 : 64) * window.rows * window.runs * window.dwords;
    }
};

constexpr int CHANNELS = 64;  // of a block; those at the end are 64, 32 or 16 wide

// Output rows `from` .. `to` − 1 of the channels `first` (a multiple of a block) .. `last` − 1, from an image of levels as
// PRODUCT takes them, which lies at `levels`.
template <class PRODUCT>
void convolve_by(const EngineStep &s, const Image *images, uint8_t *arena, const Image &in, uint8_t *levels, int from, int to, int first, int last) {
    const Image &out = images[s.target];
    const Image *residual = s.residual < 0 ? nullptr : &images[s.residual];
    const Geometry g(s, in);
    Window window = g.window;
    const int64_t pixel_step = int64_t(s.stride_w) * in.stride;
    // Rows without borders on either side join into one.
    const bool flat = s.kernel_h * s.kernel_w == 1 && s.stride_h * s.stride_w == 1 && !s.pad_h && !s.pad_w && !in.border_w &&
                      !out.border_w && (!residual || !residual->border_w);
    const int width = flat ? out.width * (to - from) : out.width, rows = flat ? from + 1 : to;
    const int blocks_end = (last + 15) / 16;  // in vectors of output channels
    alignas(64) int32_t acc[24 * 16];
    const int32_t *sums = window_sums(s, images[s.source], out, arena, from, to);
    int block = first / 16, of_block = 0;  // weights lie in blocks, of which registers may hold a part
    for (int vector = block, vectors; vector < blocks_end; vector += vectors) {
        if (vector == block + of_block) block = vector, of_block = blocks_end - vector >= 4 ? 4 : blocks_end - vector >= 2 ? 2 : 1;
        vectors = std::min(of_block, MOST_VECTORS);
        const int channel = 16 * vector;
        const int8_t *weight = s.weight + block * g.weight_bytes + 64 * (vector - block);
        window.weight_step = 64 * of_block;
        const int tiles = (width + most_pixels(vectors) - 1) / most_pixels(vectors), least = width / tiles, larger = width % tiles;
        Tile tile = {acc, 0, vectors, channel, s.target_channels, out.stride / out.size - s.target_channel - channel, nullptr, out.stride, nullptr, 0,
                     out.size, residual ? residual->size : 1};
        const bool packed = s.requantize.narrow && tile.whole(vectors - 1);
        const End end = !packed ? End::STORED : residual ? End::PACKED_WITH_RESIDUAL : End::PACKED;
        const Accumulate of_least = accumulator<PRODUCT>(end, vectors, least), of_more = larger ? accumulator<PRODUCT>(end, vectors, least + 1) : of_least;
        // The next block's weights lie behind this one's: each tile calls one vector of four.
        const int64_t next = block + of_block < blocks_end ? of_block * g.weight_bytes : 0;
        int number = 0;
        for (int y = from; y < rows; y++) {
            const uint8_t *x = in.at(levels, y * s.stride_h - s.pad_h, -s.pad_w) + int64_t(s.source_channel) * in.size;
            tile.out = out.at(arena, y, 0) + int64_t(s.target_channel + channel) * out.size;
            if (residual) tile.residual = residual->at(arena, y, 0) + int64_t(s.target_channel + channel) * residual->size, tile.residual_stride = residual->stride;
            for (int i = 0, column = 0; i < tiles; i++, column += tile.pixels) {
                tile.pixels = least + (i < larger);
                window.ahead = number < of_block ? next + 64 * number : 0, number++;
                (i < larger ? of_more : of_least)(s, window, x, pixel_step, weight, sums ? sums + int64_t(y - from) * out.width + column : nullptr, tile);
                if (!packed) finish(s.requantize, s.term, tile);
                x += tile.pixels * pixel_step, tile.out += tile.pixels * tile.out_stride;
                if (residual) tile.residual += tile.pixels * tile.residual_stride;
            }
        }
    }
}

inline void convolve(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to, int first, int last) {
    (s.nibbles ? convolve_by<ByNibbles> : convolve_by<Fours>)(s, images, arena, images[s.source], arena, from, to, first, last);
}

constexpr int64_t WIDENED_BYTES = 128 * 1024;  // of levels at a time: they stay in the second level of cache

// The same by `Twos`: a few rows of levels at a time are widened to 16 bits.
template <class TWOS>
void convolve_widened(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to, int first, int last) {
    static thread_local std::vector<uint8_t> widened;
    const Image &in = images[s.source];
    const int64_t row = in.row();
    const int window = (s.kernel_h - 1) * s.dilation_h + 1, most = int(std::max<int64_t>(1, (WIDENED_BYTES / (2 * row) - window) / s.stride_h + 1));
    Image wide = in;
    wide.size = 2, wide.stride = 2 * in.stride;
    for (int y = from; y < to; y += most) {
        const int end = std::min(y + most, to), top = y * s.stride_h - s.pad_h, rows = (end - 1 - y) * s.stride_h + window;
        widened.resize(rows * 2 * row + 64);
        TWOS::widen(in.at(arena, top, -in.border_w), widened.data(), rows * row);
        wide.offset = -(top + in.border_h) * wide.row();  // so that row `top` is the first
        convolve_by<TWOS>(s, images, arena, wide, widened.data(), y, end, first, last);
    }
}

}  // namespace
