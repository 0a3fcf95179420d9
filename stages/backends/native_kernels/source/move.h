// Levels from one place to another: permutations, slices, and reshapes that split or join dimensions.
#pragma once
#include <cstring>
#include "step.h"

namespace {

// How many levels lie along a dimension, and how many bytes apart.
struct Dimension {
    int64_t count, source, target;
};

inline void move_dimensions(const Dimension *d, int left, const uint8_t *source, uint8_t *target) {
    if (left > 1) {
        for (int64_t i = 0; i < d->count; i++) move_dimensions(d + 1, left - 1, source + i * d->source, target + i * d->target);
    } else if (d->source == 1 && d->target == 1) {
        std::memcpy(target, source, d->count);
    } else {
        for (int64_t i = 0; i < d->count; i++) target[i * d->target] = source[i * d->source];
    }
}

// `bias` holds for each of `passes` dimensions, the target's outermost first: its count, and for source and target
// the unit (0: a byte, 1: a pixel, 2: a row) and how many of it lie between two levels.
inline void move(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const int64_t of_source[3] = {1, in.stride, in.row()}, of_target[3] = {1, out.stride, out.row()};
    Dimension dimensions[8];
    for (int i = 0; i < s.passes; i++) {
        const int32_t *d = s.bias + 5 * i;
        dimensions[i] = {d[0], of_source[d[1]] * d[2], of_target[d[3]] * d[4]};
    }
    const uint8_t *source = in.at(arena, -s.pad_h, -s.pad_w) + s.source_channel;
    uint8_t *target = out.at(arena, 0, 0);
    Dimension &outermost = dimensions[0];
    const int64_t first = outermost.count * from / out.height, last = outermost.count * to / out.height;
    outermost.count = last - first;
    if (first < last) move_dimensions(dimensions, s.passes, source + first * outermost.source, target + first * outermost.target);
}

}  // namespace
