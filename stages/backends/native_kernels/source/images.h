// Borders, copies, pools, and the way in and out of the arena.
#pragma once
#include <algorithm>
#include <cstring>
#include <vector>
#include "requantize.h"

namespace {

// The border around rows `from` .. `to` − 1, with what lies above the first and below the last row.
inline void fill_border(const Image &image, uint8_t *arena, int from, int to) {
    uint8_t *start = arena + image.offset;
    const int64_t row = image.row(), side = int64_t(image.border_w) * image.stride;
    if (from == 0) std::memset(start, image.zero_point, image.border_h * row);
    if (to == image.height) std::memset(start + (image.border_h + image.height) * row, image.zero_point, image.border_h * row);
    if (!side) return;
    for (int y = from; y < to; y++) {
        uint8_t *line = start + (image.border_h + y) * row;
        std::memset(line, image.zero_point, side);
        std::memset(line + row - side, image.zero_point, side);
    }
}

// Sixteen pixels of up to four planes, interleaved; of a row's last ones `count`.
inline void interleave_planes(const uint8_t *source, int64_t plane, int channels, int flip, int count, uint8_t *out) {
    Sixteen planes[4];
    for (int c = 0; c < 4; c++)
        planes[c] = c < channels ? differ(load_sixteen_first(source + c * plane, count), fill_sixteen(flip)) : fill_sixteen(0);
    const Sixteen ab[2] = {zip8_low(planes[0], planes[1]), zip8_high(planes[0], planes[1])};
    const Sixteen cd[2] = {zip8_low(planes[2], planes[3]), zip8_high(planes[2], planes[3])};
    const Sixteen pixels[4] = {zip16_low(ab[0], cd[0]), zip16_high(ab[0], cd[0]), zip16_low(ab[1], cd[1]), zip16_high(ab[1], cd[1])};
    std::memcpy(out, pixels, 4 * std::min(count, 16));
}

// Bytes, and 128 added to each where `flip` is 128.
inline void flip_bytes(const uint8_t *source, uint8_t *target, int64_t count, int flip) {
    const Int flips = fill(flip);
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) store(target + i, differ(load(source + i), flips));
    if (i < count) store_first(target + i, differ(load_first(source + i, count - i), flips), count - i);
}

// A row of pixels between an array (pixels, channels) and an image, `from` and `to` bytes from pixel to pixel.
inline void flip_pixels(const uint8_t *source, int64_t from, uint8_t *target, int64_t to, int pixels, int channels, int flip) {
    if (from == to) return flip_bytes(source, target, pixels * from, flip);
    for (int x = 0; x < pixels; x++) flip_bytes(source + x * from, target + x * to, channels, flip);
}

// Wide levels between an array and an image, one way or the other.
inline void transfer_wide(const EngineStep &s, const Image &image, uint8_t *arena, uint8_t *sample, int from, int to, bool in) {
    const int64_t plane = int64_t(image.height) * image.width;
    for (int y = from; y < to; y++)
        for (int x = 0; x < image.width; x++) {
            uint8_t *pixel = image.at(arena, y, x);
            const int64_t place = int64_t(y) * image.width + x;
            for (int c = 0; c < image.channels; c++) {
                uint8_t *level = sample + 4 * (s.channels_last ? place * image.channels + c : c * plane + place);
                std::memcpy(in ? pixel + 4 * c : level, in ? level : pixel + 4 * c, 4);
            }
        }
}

inline void read_input(const EngineStep &s, const Image *images, uint8_t *arena, const uint8_t *sample, int from, int to) {
    const Image &out = images[s.target];
    const int64_t plane = int64_t(out.height) * out.width;
    if (out.size == 4) return transfer_wide(s, out, arena, const_cast<uint8_t *>(sample), from, to, true);
    if (s.channels_last) {  // images of tokens have no borders: their rows are one
        flip_pixels(sample + int64_t(from) * out.width * out.channels, out.channels, out.at(arena, from, 0), out.stride,
                    (to - from) * out.width, out.channels, s.flip);
        return;
    }
    for (int y = from; y < to; y++) {
        uint8_t *pixel = out.at(arena, y, 0);
        const uint8_t *source = sample + int64_t(y) * out.width;
        if (out.stride == 4) {
            for (int x = 0; x < out.width; x += 16)
                interleave_planes(source + x, plane, out.channels, s.flip, out.width - x, pixel + 4 * x);
            continue;
        }
        for (int x = 0; x < out.width; x++, pixel += out.stride)
            for (int c = 0; c < out.channels; c++) pixel[c] = source[c * plane + x] ^ s.flip;
    }
}

inline void write_output(const EngineStep &s, const Image *images, uint8_t *arena, uint8_t *sample, int from, int to) {
    const Image &in = images[s.source];
    const int64_t plane = int64_t(in.height) * in.width;
    if (in.size == 4) return transfer_wide(s, in, arena, sample, from, to, false);
    if (s.channels_last) {
        flip_pixels(in.at(arena, from, 0), in.stride, sample + int64_t(from) * in.width * in.channels, in.channels, (to - from) * in.width,
                    in.channels, s.flip);
        return;
    }
    for (int y = from; y < to; y++) {
        const uint8_t *pixel = in.at(arena, y, 0);
        uint8_t *target = sample + int64_t(y) * in.width;
        for (int x = 0; x < in.width; x++, pixel += in.stride)
            for (int c = 0; c < in.channels; c++) target[c * plane + x] = pixel[c] ^ s.flip;
    }
}

// Levels through a table of 256, 64 at a time.
inline void look_up(const uint8_t *table, const uint8_t *source, uint8_t *target, int64_t count) {
    const Table levels(table);
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) store(target + i, levels.at(load(source + i)));
    if (i < count) store_first(target + i, levels.at(load_first(source + i, count - i)), count - i);
}

// At least SIZE bytes, and fewer than twice as many.
template <int SIZE>
void copy_both_ends(const uint8_t *source, uint8_t *target, int count) {
    uint8_t first[SIZE], last[SIZE];
    std::memcpy(first, source, SIZE), std::memcpy(last, source + count - SIZE, SIZE);
    std::memcpy(target, first, SIZE), std::memcpy(target + count - SIZE, last, SIZE);
}

// The levels of a pixel: a call of memcpy takes longer, where sizes are not known before.
inline void copy_pixel(const uint8_t *source, uint8_t *target, int count) {
    if (count >= 16) {
        for (int c = 0; c + 16 < count; c += 16) store_sixteen(target + c, load_sixteen(source + c));
        store_sixteen(target + count - 16, load_sixteen(source + count - 16));
    } else if (count >= 8) {
        copy_both_ends<8>(source, target, count);
    } else if (count >= 4) {
        copy_both_ends<4>(source, target, count);
    } else {
        for (int c = 0; c < count; c++) target[c] = source[c];
    }
}

// A row of pixels, `from` and `to` bytes apart. Sizes that networks are made of are known to compilers.
template <int COUNT>
void copy_pixels_of(const uint8_t *source, int64_t from, uint8_t *target, int64_t to, int pixels) {
    for (int x = 0; x < pixels; x++) std::memcpy(target + x * to, source + x * from, COUNT);
}
inline void copy_pixels(const uint8_t *source, int64_t from, uint8_t *target, int64_t to, int pixels, int count) {
    switch (count) {
        case 4: return copy_pixels_of<4>(source, from, target, to, pixels);
        case 8: return copy_pixels_of<8>(source, from, target, to, pixels);
        case 12: return copy_pixels_of<12>(source, from, target, to, pixels);
        case 16: return copy_pixels_of<16>(source, from, target, to, pixels);
        case 24: return copy_pixels_of<24>(source, from, target, to, pixels);
        case 32: return copy_pixels_of<32>(source, from, target, to, pixels);
    }
    for (int x = 0; x < pixels; x++) copy_pixel(source + x * from, target + x * to, count);
}

// Whether each output pixel is the source's at the same place, all of its channels.
inline bool same_place(const EngineStep &s, const Image &in, const Image &out) {
    const bool pixels = s.stride_h * s.stride_w * s.divide_h * s.divide_w == 1 && !s.pad_h && !s.pad_w && in.width == out.width && in.height >= out.height;
    return pixels && !s.source_channel && !s.target_channel && s.channels == out.channels && in.stride == out.stride;
}

// A matrix of sixteen by sixteen bytes, whose rows become columns: four times each row is interleaved with the one eight
// rows below.
inline void transpose_sixteen(Sixteen *a) {
    Sixteen b[16];
    for (int k = 0; k < 8; k++) b[2 * k] = zip8_low(a[k], a[k + 8]), b[2 * k + 1] = zip8_high(a[k], a[k + 8]);
    for (int k = 0; k < 8; k++) a[2 * k] = zip8_low(b[k], b[k + 8]), a[2 * k + 1] = zip8_high(b[k], b[k + 8]);
    for (int k = 0; k < 8; k++) b[2 * k] = zip8_low(a[k], a[k + 8]), b[2 * k + 1] = zip8_high(a[k], a[k + 8]);
    for (int k = 0; k < 8; k++) a[2 * k] = zip8_low(b[k], b[k + 8]), a[2 * k + 1] = zip8_high(b[k], b[k + 8]);
}

// Each channel of a pixel `repeat` times, of all pixels; twice by whole vectors.
inline void repeat_channels(const EngineStep &s, const Image &in, const Image &out, uint8_t *arena, int from, int to) {
    for (int y = from; y < to; y++)
        for (int x = 0; x < out.width; x++) {
            const uint8_t *source = in.at(arena, y, x);
            uint8_t *target = out.at(arena, y, x);
            for (int c = 0; s.repeat != 2 && c < s.channels; c++) std::memset(target + int64_t(c) * s.repeat, source[c], s.repeat);
            for (int c = 0; s.repeat == 2 && c < out.stride; c += 32) {
                const Sixteen levels = load_sixteen(source + c / 2);
                store_sixteen(target + c, zip8_low(levels, levels));
                if (c + 16 < out.stride) store_sixteen(target + c + 16, zip8_high(levels, levels));
            }
        }
}

// Slices, pads, concatenations, tables, upsampling: output pixel (y, x) is the source's
// ((y·stride − pad) / divide, (x·stride − pad) / divide).
inline void copy(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    if (s.repeat > 1) return repeat_channels(s, in, out, arena, from, to);
    if (s.flatten) {
        uint8_t *target = out.at(arena, 0, 0);
        for (int y = 0; y < in.height; y++)
            for (int x = 0; x < in.width; x++) {
                const uint8_t *pixel = in.at(arena, y, x);
                for (int c = 0; c < in.channels; c++) target[(int64_t(c) * in.height + y) * in.width + x] = pixel[c];
            }
        return;
    }
    if (s.table && same_place(s, in, out)) {
        for (int y = from; y < to; y++) look_up(s.table, in.at(arena, y, 0), out.at(arena, y, 0), int64_t(out.width) * out.stride);
        return;
    }
    static thread_local std::vector<uint8_t> looked_up;  // a row of the source, all of its bytes
    const int64_t bytes = int64_t(in.width) * in.stride;
    for (int y = from; y < to; y++) {
        if (s.fill) std::memset(out.at(arena, y, 0), out.zero_point, int64_t(out.width) * out.stride);
        const int row = y * s.stride_h - s.pad_h;
        if (row < 0 || row >= in.height * s.divide_h || (s.sparse && row % s.divide_h)) continue;
        const uint8_t *sources = in.at(arena, row / s.divide_h, 0);
        if (s.table) {
            looked_up.resize(bytes + 64);
            look_up(s.table, sources, looked_up.data(), bytes);
            sources = looked_up.data();
        }
        sources += s.source_channel;
        if (s.stride_w * s.divide_w == 1 && !s.pad_w && out.width <= in.width) {
            copy_pixels(sources, in.stride, out.at(arena, y, 0) + s.target_channel, out.stride, out.width, s.channels);
            continue;
        }
        for (int x = 0; x < out.width; x++) {
            const int column = x * s.stride_w - s.pad_w;
            if (column < 0 || column >= in.width * s.divide_w || (s.sparse && column % s.divide_w)) continue;
            const int64_t pixel = s.divide_w == 1 ? column : column / s.divide_w;
            copy_pixel(sources + pixel * in.stride, out.at(arena, y, x) + s.target_channel, s.channels);
        }
    }
}

// Calls `each(pixel)` for the window's pixels inside the image.
template <class Each>
void for_window(const EngineStep &s, const Image &in, uint8_t *arena, int y, int x, const Each &each) {
    const int top = y * s.stride_h - s.pad_h, left = x * s.stride_w - s.pad_w;
    for (int i = 0; i < s.kernel_h; i++) {
        const int row = top + i * s.dilation_h;
        if (row < 0 || row >= in.height) continue;
        for (int j = 0; j < s.kernel_w; j++) {
            const int column = left + j * s.dilation_w;
            if (column >= 0 && column < in.width) each(in.at(arena, row, column));
        }
    }
}

template <bool FIXED>
void average_as(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Rescale<FIXED, false> rescale(s.requantize, 0, s.term);
    alignas(64) int8_t one[64];
    std::memset(one, 1, sizeof one);
    const Weights ones = load_weights(one);
    static thread_local std::vector<const uint8_t *> pixels;
    for (int y = from; y < to; y++)
        for (int x = 0; x < out.width; x++) {
            pixels.clear();
            for_window(s, in, arena, y, x, [&](const uint8_t *pixel) { pixels.push_back(pixel); });
            const int count = int(pixels.size());
            const Int zero = broadcast(count * (DOT_OFFSET - in.zero_point));
            for (int c = 0; c < out.stride; c += 64) {
                Int sums[4] = {zero, zero, zero, zero}, ordered[4], columns[4], rows[4];
                for (int p = 0; p < count; p += 4) {  // four pixels a product; what DOT_OFFSET is taken from adds nothing
                    for (int i = 0; i < 4; i++) rows[i] = p + i < count ? load_some(pixels[p + i] + c, out.stride - c) : fill(DOT_OFFSET);
                    interleave(rows[0], rows[1], rows[2], rows[3], columns);
                    for (int q = 0; q < 4; q++) sums[q] = dot_each(sums[q], columns[q], ones);
                }
                transpose_quarters(sums, ordered);
                for (int q = 0; q < 4 && c + 16 * q < out.stride; q++) store_sixteen(out.at(arena, y, x) + c + 16 * q, narrow(rescale.levels(ordered[q])));
            }
        }
}

inline void average(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.requantize.mode ? average_as<true> : average_as<false>)(s, images, arena, from, to);
}

// `table[0]` is the level of a window that lies in the padding alone.
inline void maximum(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    for (int y = from; y < to; y++)
        for (int x = 0; x < out.width; x++) {
            uint8_t *target = out.at(arena, y, x);
            int c = 0;
            for (; c + 64 <= out.stride; c += 64) {
                Int most = fill(s.table[0]);
                for_window(s, in, arena, y, x, [&](const uint8_t *pixel) { most = most_bytes(most, load(pixel + c)); });
                store(target + c, most);
            }
            for (; c < out.stride; c += 16) {
                Sixteen most = fill_sixteen(s.table[0]);
                for_window(s, in, arena, y, x, [&](const uint8_t *pixel) { most = most_bytes(most, load_sixteen(pixel + c)); });
                store_sixteen(target + c, most);
            }
        }
}

}  // namespace
