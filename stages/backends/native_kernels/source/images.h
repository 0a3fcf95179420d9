// All that is not a product: borders, copies, sums of two, pools, and the way in and out of the arena.
#pragma once
#include <algorithm>
#include <cstring>
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
    __m128i planes[4];
    for (int c = 0; c < 4; c++) {
        const __mmask16 mask = count >= 16 ? 0xFFFF : (1u << count) - 1;
        planes[c] = c < channels ? _mm_xor_si128(_mm_maskz_loadu_epi8(mask, source + c * plane), _mm_set1_epi8(int8_t(flip))) : _mm_setzero_si128();
    }
    const __m128i ab[2] = {_mm_unpacklo_epi8(planes[0], planes[1]), _mm_unpackhi_epi8(planes[0], planes[1])};
    const __m128i cd[2] = {_mm_unpacklo_epi8(planes[2], planes[3]), _mm_unpackhi_epi8(planes[2], planes[3])};
    __m128i pixels[4] = {_mm_unpacklo_epi16(ab[0], cd[0]), _mm_unpackhi_epi16(ab[0], cd[0]), _mm_unpacklo_epi16(ab[1], cd[1]),
                         _mm_unpackhi_epi16(ab[1], cd[1])};
    std::memcpy(out, pixels, 4 * std::min(count, 16));
}

// Bytes, and 128 added to each where `flip` is 128.
inline void flip_bytes(const uint8_t *source, uint8_t *target, int64_t count, int flip) {
    const __m512i flips = _mm512_set1_epi8(int8_t(flip));
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) _mm512_storeu_si512(target + i, _mm512_xor_si512(_mm512_loadu_si512(source + i), flips));
    if (i == count) return;
    const __mmask64 mask = (1ull << (count - i)) - 1;
    _mm512_mask_storeu_epi8(target + i, mask, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, source + i), flips));
}

// A row of pixels between an array (pixels, channels) and an image, `from` and `to` bytes from pixel to pixel.
inline void flip_pixels(const uint8_t *source, int64_t from, uint8_t *target, int64_t to, int pixels, int channels, int flip) {
    if (from == to) return flip_bytes(source, target, pixels * from, flip);
    for (int x = 0; x < pixels; x++) flip_bytes(source + x * from, target + x * to, channels, flip);
}

inline void read_input(const EngineStep &s, const Image *images, uint8_t *arena, const uint8_t *sample, int from, int to) {
    const Image &out = images[s.target];
    const int64_t plane = int64_t(out.height) * out.width;
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

// Levels through a table of 256, 64 at a time: a shuffle for each value of their upper four bits.
inline void look_up(const uint8_t *table, const uint8_t *source, uint8_t *target, int64_t count) {
    __m512i parts[16];
    for (int k = 0; k < 16; k++) parts[k] = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i *>(table + 16 * k)));
    const __m512i low = _mm512_set1_epi8(0x0F);
    for (int64_t i = 0; i < count; i += 64) {
        const __mmask64 mask = count - i >= 64 ? ~0ull : (1ull << (count - i)) - 1;
        const __m512i levels = _mm512_maskz_loadu_epi8(mask, source + i);
        const __m512i index = _mm512_and_si512(levels, low), upper = _mm512_andnot_si512(low, levels);
        __m512i found = _mm512_setzero_si512();
        for (int k = 0; k < 16; k++) {
            const __mmask64 here = _mm512_cmpeq_epi8_mask(upper, _mm512_set1_epi8(int8_t(16 * k)));
            found = _mm512_mask_shuffle_epi8(found, here, parts[k], index);
        }
        _mm512_mask_storeu_epi8(target + i, mask, found);
    }
}

// Whether each output pixel is the source's at the same place, all of its channels.
inline bool same_place(const EngineStep &s, const Image &in, const Image &out) {
    const bool pixels = s.stride_h * s.stride_w * s.divide_h * s.divide_w == 1 && !s.pad_h && !s.pad_w && in.width == out.width && in.height >= out.height;
    return pixels && !s.source_channel && !s.target_channel && s.channels == out.channels && in.stride == out.stride;
}

// Slices, pads, concatenations, tables, upsampling: output pixel (y, x) is the source's
// ((y·stride − pad) / divide, (x·stride − pad) / divide).
inline void copy(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
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
    for (int y = from; y < to; y++) {
        if (s.fill) std::memset(out.at(arena, y, 0), out.zero_point, int64_t(out.width) * out.stride);
        const int row = y * s.stride_h - s.pad_h;
        if (row < 0 || row >= in.height * s.divide_h || (s.sparse && row % s.divide_h)) continue;
        const int source_row = row / s.divide_h;
        for (int x = 0; x < out.width; x++) {
            const int column = x * s.stride_w - s.pad_w;
            if (column < 0 || column >= in.width * s.divide_w || (s.sparse && column % s.divide_w)) continue;
            const uint8_t *source = in.at(arena, source_row, s.divide_w == 1 ? column : column / s.divide_w) + s.source_channel;
            uint8_t *target = out.at(arena, y, x) + s.target_channel;
            if (s.table && s.channels >= 64)
                look_up(s.table, source, target, s.channels);
            else if (s.table)
                for (int c = 0; c < s.channels; c++) target[c] = s.table[source[c]];
            else if (s.channels % 16 == 0)  // a call of memcpy takes longer than these
                for (int c = 0; c < s.channels; c += 16) {
                    const __m128i levels = _mm_loadu_si128(reinterpret_cast<const __m128i *>(source + c));
                    _mm_storeu_si128(reinterpret_cast<__m128i *>(target + c), levels);
                }
            else
                std::memcpy(target, source, s.channels);
        }
    }
}

template <bool FIXED>
void add_as(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &a = images[s.source], &b = images[s.residual], &out = images[s.target];
    const Rescale<FIXED, true> rescale(s.requantize, 0, s.term);
    const __m512i zero = _mm512_set1_epi32(a.zero_point);
    for (int y = from; y < to; y++) {
        const uint8_t *first = a.at(arena, y, 0), *second = b.at(arena, y, 0);
        uint8_t *target = out.at(arena, y, 0);
        const int64_t bytes = int64_t(out.width) * out.stride;
        for (int64_t i = 0; i < bytes; i += 16) {
            __m512i x = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(first + i)));
            store_levels(target + i, _mm512_cvtepi32_epi8(rescale.levels(_mm512_sub_epi32(x, zero), second + i)), 0xFFFF);
        }
    }
}

inline void add(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.requantize.mode ? add_as<true> : add_as<false>)(s, images, arena, from, to);
}

// Dimensions of 1 are repeated.
template <bool FIXED>
void multiply_as(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &a = images[s.source], &b = images[s.residual], &out = images[s.target];
    const Rescale<FIXED, false> rescale(s.requantize, 0, s.term);
    const __m512i zero_a = _mm512_set1_epi32(a.zero_point), zero_b = _mm512_set1_epi32(b.zero_point);
    const auto sixteen = [](const Image &image, const uint8_t *pixel, int c, __m512i zero) {
        const __m128i bytes = image.channels == 1 ? _mm_set1_epi8(int8_t(*pixel)) : _mm_loadu_si128(reinterpret_cast<const __m128i *>(pixel + c));
        return _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), zero);
    };
    for (int y = from; y < to; y++)
        for (int x = 0; x < out.width; x++) {
            const uint8_t *first = a.at(arena, a.height == 1 ? 0 : y, a.width == 1 ? 0 : x);
            const uint8_t *second = b.at(arena, b.height == 1 ? 0 : y, b.width == 1 ? 0 : x);
            uint8_t *target = out.at(arena, y, x);
            for (int c = 0; c < out.stride; c += 16) {
                const __m512i product = _mm512_mullo_epi32(sixteen(a, first, c, zero_a), sixteen(b, second, c, zero_b));
                store_levels(target + c, _mm512_cvtepi32_epi8(rescale.levels(product, nullptr)), 0xFFFF);
            }
        }
}

inline void multiply(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.requantize.mode ? multiply_as<true> : multiply_as<false>)(s, images, arena, from, to);
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
    for (int y = from; y < to; y++)
        for (int x = 0; x < out.width; x++)
            for (int c = 0; c < out.stride; c += 16) {
                __m512i sum = _mm512_setzero_si512();
                for_window(s, in, arena, y, x, [&](const uint8_t *pixel) {
                    __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i *>(pixel + c));
                    sum = _mm512_add_epi32(sum, _mm512_sub_epi32(_mm512_cvtepu8_epi32(bytes), _mm512_set1_epi32(in.zero_point)));
                });
                store_levels(out.at(arena, y, x) + c, _mm512_cvtepi32_epi8(rescale.levels(sum, nullptr)), 0xFFFF);
            }
}

inline void average(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.requantize.mode ? average_as<true> : average_as<false>)(s, images, arena, from, to);
}

// `table[0]` is the level of a window that lies in the padding alone.
inline void maximum(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    for (int y = from; y < to; y++)
        for (int x = 0; x < out.width; x++)
            for (int c = 0; c < out.stride; c += 16) {
                __m128i most = _mm_set1_epi8(int8_t(s.table[0]));
                for_window(s, in, arena, y, x, [&](const uint8_t *pixel) {
                    most = _mm_max_epu8(most, _mm_loadu_si128(reinterpret_cast<const __m128i *>(pixel + c)));
                });
                _mm_storeu_si128(reinterpret_cast<__m128i *>(out.at(arena, y, x) + c), most);
            }
}

}  // namespace
