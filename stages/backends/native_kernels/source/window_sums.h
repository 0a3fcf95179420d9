// Σ qx over the windows of a convolution whose weights have zero points, once for each output pixel. Windows share what they
// have in common: each pixel's levels are added up once, then the kernel's rows, then its columns.
#pragma once
#include <vector>
#include "requantize.h"

namespace {

constexpr int BEYOND = 16;  // so many numbers may be written behind the last one

// Σ of each of `count` pixels' levels, where pixels are DWORDS apart: by products with 1, and 0 for what is no level.
template <int DWORDS>
void sum_near_pixels(const uint8_t *x, int channels, int count, int32_t *sums) {
    constexpr int STEP = 4 * DWORDS, EACH = 16 / DWORDS;
    alignas(64) int8_t ones[64];
    alignas(64) int32_t fours[16];
    for (int i = 0; i < 64; i++) ones[i] = i % STEP < channels;
    const Weights weights = load_weights(ones);
    const int64_t bytes = int64_t(count - 1) * STEP + channels;
    for (int first = 0; first < count; first += EACH) {
        const int64_t left = bytes - int64_t(first) * STEP;
        const uint8_t *start = x + int64_t(first) * STEP;
        store(fours, dot_each(broadcast(0), left >= 64 ? load(start) : load_first(start, left), weights));
        for (int p = 0; p < EACH; p++) {
            int32_t sum = DOT_OFFSET * channels;
            for (int i = 0; i < DWORDS; i++) sum += fours[p * DWORDS + i];
            sums[first + p] = sum;
        }
    }
}

// The same for pixels that are `step` bytes apart.
inline void sum_pixels(const uint8_t *x, int64_t step, int channels, int count, int32_t *sums) {
    switch (step) {
        case 4: return sum_near_pixels<1>(x, channels, count, sums);
        case 8: return sum_near_pixels<2>(x, channels, count, sums);
        case 16: return sum_near_pixels<4>(x, channels, count, sums);
        case 32: return sum_near_pixels<8>(x, channels, count, sums);
    }
    for (int p = 0; p < count; p++, x += step) {
        ByteSum sum;
        int byte = 0;
        for (; byte + 64 <= channels; byte += 64) sum.add_bytes(load(x + byte));
        if (byte < channels) sum.add_bytes(load_first(x + byte, channels - byte));
        sums[p] = sum.total();
    }
}

// Σ of `terms` numbers that are `step` apart, for each of `count` neighbours.
inline void sum_neighbours(const int32_t *x, int64_t step, int terms, int count, int32_t *sums) {
    for (int first = 0; first < count; first += 16) {
        Int sum = load(x + first);
        for (int i = 1; i < terms; i++) sum = add(sum, load(x + first + i * step));
        store(sums + first, sum);
    }
}

// Σ qx of the windows of output rows `from` .. `to` − 1, (rows, out.width), until the next call; null without zero points.
inline const int32_t *window_sums(const EngineStep &s, const Image &in, const Image &out, uint8_t *arena, int from, int to) {
    if (!s.requantize.weight_zero_point) return nullptr;
    static thread_local std::vector<int32_t> pixels, columns, windows;
    // Where a kernel has one row or column, only those that windows begin at are of use.
    const int skip_h = s.kernel_h == 1 ? s.stride_h : 1, skip_w = s.kernel_w == 1 ? s.stride_w : 1;
    const int stride_h = s.stride_h / skip_h, stride_w = s.stride_w / skip_w;
    const int rows = (to - from - 1) * stride_h + (s.kernel_h - 1) * s.dilation_h + 1;
    const int width = (out.width - 1) * stride_w + (s.kernel_w - 1) * s.dilation_w + 1;
    pixels.resize(int64_t(rows) * width + BEYOND);
    for (int row = 0; row < rows; row++) {
        const uint8_t *x = in.at(arena, from * s.stride_h - s.pad_h + row * skip_h, -s.pad_w) + s.source_channel;
        sum_pixels(x, int64_t(skip_w) * in.stride, s.sum_channels, width, pixels.data() + int64_t(row) * width);
    }
    if (s.kernel_h * s.kernel_w == 1) return pixels.data();
    columns.resize(width + BEYOND), windows.resize(int64_t(to - from) * out.width + BEYOND);
    int32_t *sums = windows.data();
    for (int y = 0; y < to - from; y++, sums += out.width) {
        sum_neighbours(pixels.data() + int64_t(y) * stride_h * width, int64_t(s.dilation_h) * width, s.kernel_h, width, columns.data());
        if (stride_w == 1) {
            sum_neighbours(columns.data(), s.dilation_w, s.kernel_w, out.width, sums);
            continue;
        }
        for (int x = 0; x < out.width; x++) {
            const int32_t *column = columns.data() + int64_t(x) * stride_w;
            sums[x] = column[0];
            for (int j = 1; j < s.kernel_w; j++) sums[x] += column[int64_t(j) * s.dilation_w];
        }
    }
    return windows.data();
}

}  // namespace
