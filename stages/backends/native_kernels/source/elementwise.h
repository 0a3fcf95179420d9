// Sums, differences, extremes and products of two values, and requantization of one, level by level. Levels have 8
// bits or 32; rows of a value that is repeated are found by a map, or are one for all.
#pragma once
#include <cmath>
#include <cstring>
#include "images.h"

namespace {

// What a step reads of one of its values.
struct Operand {
    const Image &image;
    const int32_t *map;
    const bool one;  // level a pixel, for all channels

    Operand(const Image &of, const int32_t *rows, const Image &target) : image(of), map(rows), one(of.channels == 1 && target.channels > 1) {}

    bool same_place(const Image &target) const {
        return !one && !map && image.height == target.height && image.width == target.width && image.stride / image.size == target.stride / target.size;
    }
    const uint8_t *at(uint8_t *arena, int y, int x) const {
        return image.at(arena, map ? map[y] : image.height == 1 ? 0 : y, image.width == 1 ? 0 : x);
    }
    // Sixteen levels, `i` levels behind those at p.
    Int levels(const uint8_t *p, int64_t i) const {
        if (!one) return load_levels(p + i * image.size, image.size);
        int32_t level = *p;
        if (image.size == 4) std::memcpy(&level, p, 4);
        return broadcast(level);
    }
};

// Calls `each(first, second, target, count)` for runs of levels: rows where all are alike, else pixels.
template <class Each>
void for_runs(const Operand &a, const Operand &b, const Image &out, uint8_t *arena, int from, int to, const Each &each) {
    const int64_t pixel = out.stride / out.size;
    if (a.same_place(out) && b.same_place(out)) {
        for (int y = from; y < to; y++) each(a.at(arena, y, 0), b.at(arena, y, 0), out.at(arena, y, 0), out.width * pixel);
        return;
    }
    for (int y = from; y < to; y++)
        for (int x = 0; x < out.width; x++) each(a.at(arena, y, x), b.at(arena, y, x), out.at(arena, y, x), pixel);
}

// The larger and the smaller of terms.
inline Terms<false> larger(Terms<false> a, Terms<false> b) { return {clamped(a.all, b.all, broadcast_float(INFINITY))}; }
inline Terms<false> smaller(Terms<false> a, Terms<false> b) { return {clamped(a.all, broadcast_float(-INFINITY), b.all)}; }
inline Terms<false> difference(Terms<false> a, Terms<false> b) { return {plus(a.all, times(b.all, broadcast_float(-1.0f)))}; }
inline Terms<true> larger(Terms<true> a, Terms<true> b) {
    const Long most = broadcast_long(INT64_MAX);
    return {clamped(a.even, b.even, most), clamped(a.odd, b.odd, most)};
}
inline Terms<true> smaller(Terms<true> a, Terms<true> b) {
    const Long least = broadcast_long(INT64_MIN);
    return {clamped(a.even, least, b.even), clamped(a.odd, least, b.odd)};
}
inline Terms<true> difference(Terms<true> a, Terms<true> b) { return {subtract_long(a.even, b.even), subtract_long(a.odd, b.odd)}; }

template <bool FIXED, int OPERATION>
void combine_as(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &out = images[s.target];
    const Operand a(images[s.source], s.map, out), b(images[s.residual], s.residual_map, out);
    const Rescale<FIXED, true> rescale(s.requantize, 0, s.term);
    const Int zero = broadcast(a.image.zero_point);
    for_runs(a, b, out, arena, from, to, [&](const uint8_t *first, const uint8_t *second, uint8_t *target, int64_t count) {
        for (int64_t i = 0; i < count; i += 16) {
            const Terms<FIXED> left = rescale.terms(subtract(a.levels(first, i), zero)), right = rescale.residual_terms(b.levels(second, i));
            const Terms<FIXED> both = OPERATION == SUM          ? rescale.added(left, right)
                                      : OPERATION == DIFFERENCE ? difference(left, right)
                                      : OPERATION == LARGEST    ? larger(left, right)
                                                                : smaller(left, right);
            store_levels(target + i * out.size, rescale.finished(both), out.size);
        }
    });
}

template <bool FIXED>
void combine_in(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    switch (s.operation) {
        case SUM: return combine_as<FIXED, SUM>(s, images, arena, from, to);
        case DIFFERENCE: return combine_as<FIXED, DIFFERENCE>(s, images, arena, from, to);
        case LARGEST: return combine_as<FIXED, LARGEST>(s, images, arena, from, to);
        default: return combine_as<FIXED, SMALLEST>(s, images, arena, from, to);
    }
}

inline void combine(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.requantize.mode ? combine_in<true> : combine_in<false>)(s, images, arena, from, to);
}

template <bool FIXED>
void multiply_as(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &out = images[s.target];
    const Operand a(images[s.source], s.map, out), b(images[s.residual], s.residual_map, out);
    const Rescale<FIXED, false> rescale(s.requantize, 0, s.term);
    const Int zero_a = broadcast(a.image.zero_point), zero_b = broadcast(b.image.zero_point);
    const Packing bounds = packing(s.requantize);
    for_runs(a, b, out, arena, from, to, [&](const uint8_t *first, const uint8_t *second, uint8_t *target, int64_t count) {
        const auto product = [&](int64_t i) { return multiply(subtract(a.levels(first, i), zero_a), subtract(b.levels(second, i), zero_b)); };
        int64_t i = 0;
        if (s.requantize.narrow) {
            const Float ratio = load_floats(s.requantize.ratio);
            for (; i + 64 <= count; i += 64) {
                Int of[4];
                for (int k = 0; k < 4; k++) of[k] = rounded(times(floats(product(i + 16 * k)), ratio));
                store(target + i, pack_levels(bounds, of[0], of[1], of[2], of[3]));
            }
        }
        for (; i < count; i += 16) store_sixteen(target + i, narrow(rescale.levels(product(i))));
    });
}

inline void multiply(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.requantize.mode ? multiply_as<true> : multiply_as<false>)(s, images, arena, from, to);
}

template <bool FIXED>
void rescale_as(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Rescale<FIXED, false> rescale(s.requantize, 0, s.term);
    const Int zero = broadcast(in.zero_point);
    for (int y = from; y < to; y++) {
        const uint8_t *source = in.at(arena, y, 0);
        uint8_t *target = out.at(arena, y, 0);
        const int64_t count = int64_t(out.width) * (out.stride / out.size);
        for (int64_t i = 0; i < count; i += 16)
            store_levels(target + i * out.size, rescale.levels(subtract(load_levels(source + i * in.size, in.size), zero)), out.size);
    }
}

// One value at another scale, where one of the two is wide.
inline void rescale_levels(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.requantize.mode ? rescale_as<true> : rescale_as<false>)(s, images, arena, from, to);
}

constexpr int TABLE_PIXELS = 256, LEAST_TABLE_PIXELS = 32;

// Levels of `count` neighbours, each through its channel's table: sixteen channels at a time, which are brought to lie one
// after the other, so that a table serves all pixels. Whole vectors of channels are written.
inline void look_up_neighbours(const uint8_t *tables, int channels, const uint8_t *source, int64_t source_step, uint8_t *target, int64_t target_step,
                               int count) {
    alignas(64) uint8_t planes[16][TABLE_PIXELS];
    Sixteen a[16];
    for (int first = 0; first < channels; first += 16) {
        for (int p = 0; p < count; p += 16) {
            for (int k = 0; k < 16; k++) a[k] = p + k < count ? load_sixteen(source + (p + k) * source_step + first) : fill_sixteen(0);
            transpose_sixteen(a);
            for (int k = 0; k < 16; k++) store_sixteen(planes[k] + p, a[k]);
        }
        for (int k = 0; k < 16 && first + k < channels; k++) look_up(tables + 256 * int64_t(first + k), planes[k], planes[k], count);
        for (int p = 0; p < count; p += 16) {
            for (int k = 0; k < 16; k++) a[k] = load_sixteen(planes[k] + p);
            transpose_sixteen(a);
            for (int k = 0; k < 16 && p + k < count; k++) store_sixteen(target + (p + k) * target_step + first, a[k]);
        }
    }
}

// `table` has one for each channel; or for each row, as `map` says.
inline void look_up_channels(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const bool joined = !in.border_w && !out.border_w && !s.map;  // rows are one
    const int width = joined ? out.width * (to - from) : out.width, end = joined ? from + 1 : to;
    for (int y = from; y < end; y++)
        for (int x = 0; x < width; x += TABLE_PIXELS) {
            const int count = std::min(TABLE_PIXELS, width - x);
            const uint8_t *source = in.at(arena, y, x);
            uint8_t *target = out.at(arena, y, x);
            if (s.map) {
                for (int p = 0; p < count; p++) look_up(s.table + 256 * int64_t(s.map[y]), source + p * int64_t(in.stride), target + p * int64_t(out.stride), out.channels);
            } else if (count >= LEAST_TABLE_PIXELS) {
                look_up_neighbours(s.table, out.channels, source, in.stride, target, out.stride, count);
            } else {
                for (int p = 0; p < count; p++, source += in.stride, target += out.stride)
                    for (int c = 0; c < out.channels; c++) target[c] = s.table[256 * int64_t(c) + source[c]];
            }
        }
}

}  // namespace
