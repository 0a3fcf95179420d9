// Levels from one place to another: permutations, slices, selections, and reshapes that split or join dimensions;
// constants, and rows of tables.
#pragma once
#include <algorithm>
#include <cstring>
#include "images.h"
#include "step.h"

namespace {

// How many levels lie along a dimension, and how many bytes apart; `list` says which of the source's each is, null for
// all of them in turn.
struct Dimension {
    int64_t count, source, target;
    const int32_t *list;

    int64_t from(int64_t i) const { return (list ? list[i] : i) * source; }
};

// Whether bytes that lie together in the source are those of one dimension, and in the target those of the other.
inline bool transposes(const Dimension &outer, const Dimension &inner) {
    return !outer.list && !inner.list && outer.source == 1 && inner.target == 1 && outer.count >= 4 && inner.count >= 4;
}

// Bytes of a matrix (columns, rows) to one of (rows, columns): those along `inner` lie together in the target, those along
// `outer` in the source.
inline void transpose(const Dimension &outer, const Dimension &inner, const uint8_t *source, uint8_t *target) {
    for (int64_t i = 0; i < inner.count; i += 16)
        for (int64_t j = 0; j < outer.count; j += 16) {
            const int columns = int(std::min<int64_t>(16, inner.count - i)), rows = int(std::min<int64_t>(16, outer.count - j));
            Sixteen a[16];
            for (int k = 0; k < 16; k++) a[k] = k < columns ? load_sixteen(source + (i + k) * inner.source + j) : fill_sixteen(0);
            transpose_sixteen(a);
            for (int k = 0; k < rows; k++) store_levels(target + (j + k) * outer.target + i, a[k], columns);
        }
}

// Bytes that lie together, of which there are mostly few.
inline void copy_run(const uint8_t *source, uint8_t *target, int64_t bytes) {
    if (bytes % 16 || bytes > 512) return void(std::memcpy(target, source, bytes));
    for (int64_t i = 0; i < bytes; i += 16) store_sixteen(target + i, load_sixteen(source + i));
}

// Whether levels of that type follow on each other on both sides.
template <class LEVEL>
bool together(const Dimension &d) { return !d.list && d.source == sizeof(LEVEL) && d.target == sizeof(LEVEL); }

// Levels of type LEVEL; of one byte, through a table where there is one.
template <class LEVEL>
void move_dimensions(const Dimension *d, int left, const uint8_t *source, uint8_t *target, const uint8_t *table) {
    if (sizeof(LEVEL) == 1 && left == 2 && transposes(d[0], d[1]) && !table) return transpose(d[0], d[1], source, target);
    if (left == 2 && !table && together<LEVEL>(d[1])) {
        for (int64_t i = 0; i < d->count; i++) copy_run(source + d->from(i), target + i * d->target, sizeof(LEVEL) * d[1].count);
        return;
    }
    if (left > 1) {
        for (int64_t i = 0; i < d->count; i++) move_dimensions<LEVEL>(d + 1, left - 1, source + d->from(i), target + i * d->target, table);
        return;
    }
    constexpr int64_t SIZE = sizeof(LEVEL);
    if (SIZE == 1 && table) {
        if (together<LEVEL>(*d) && d->count >= 64) return look_up(table, source, target, d->count);
        for (int64_t i = 0; i < d->count; i++) target[i * d->target] = table[source[d->from(i)]];
    } else if (together<LEVEL>(*d)) {
        copy_run(source, target, SIZE * d->count);
    } else if (!d->list) {
        for (int64_t i = 0; i < d->count; i++) std::memcpy(target + i * d->target, source + i * d->source, SIZE);
    } else {
        for (int64_t i = 0; i < d->count; i++) std::memcpy(target + i * d->target, source + d->from(i), SIZE);
    }
}

// `bias` holds for each of `passes` dimensions, the target's outermost first: its count, and for source and target
// the unit (0: a level, 1: a pixel, 2: a row) and how many of it lie between two levels.
inline void move(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const int64_t of_source[3] = {in.size, in.stride, in.row()}, of_target[3] = {out.size, out.stride, out.row()};
    Dimension dimensions[8];
    for (int i = 0; i < s.passes; i++) {
        const int32_t *d = s.bias + 5 * i;
        dimensions[i] = {d[0], of_source[d[1]] * d[2], of_target[d[3]] * d[4], i == s.count ? s.map : nullptr};
    }
    const uint8_t *source = in.at(arena, -s.pad_h, -s.pad_w) + int64_t(s.source_channel) * in.size;
    uint8_t *target = out.at(arena, s.target_row, s.target_column) + int64_t(s.target_channel) * out.size;
    Dimension &outermost = dimensions[0];
    const int64_t first = outermost.count * from / out.height, last = outermost.count * to / out.height;
    outermost.count = last - first, target += first * outermost.target;
    if (outermost.list)
        outermost.list += first;
    else
        source += first * outermost.source;
    for (int i = 0; i + 2 < s.passes; i++)  // whichever lies together in the source comes last but one
        if (transposes(dimensions[i], dimensions[s.passes - 1])) {
            std::rotate(dimensions + i, dimensions + i + 1, dimensions + s.passes - 1);
            break;
        }
    if (first < last) (out.size == 4 ? move_dimensions<int32_t> : move_dimensions<uint8_t>)(dimensions, s.passes, source, target, s.table);
}

// The zero point everywhere.
inline void fill_rows(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &out = images[s.target];
    for (int y = from; y < to; y++) {
        uint8_t *row = out.at(arena, y, 0);
        const int64_t bytes = int64_t(out.width) * out.stride;
        if (out.size == 1) std::memset(row, out.zero_point, bytes);
        for (int64_t i = 0; out.size == 4 && i < bytes; i += 64) store(row + i, broadcast(out.zero_point));
    }
}

// `table` has the levels, channels last.
inline void read_constant(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &out = images[s.target];
    for (int y = from; y < to; y++)
        for (int x = 0; x < out.width; x++)
            std::memcpy(out.at(arena, y, x), s.table + (int64_t(y) * out.width + x) * out.channels, out.channels);
}

// Row y of the target is that of `table` which the source's level y, counted along its channels first, names.
inline void embed(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    for (int y = from; y < to; y++) {
        const uint8_t *level = in.at(arena, y / in.channels, 0) + int64_t(y % in.channels) * in.size;
        int32_t row = *level;
        if (in.size == 4) std::memcpy(&row, level, 4);
        std::memcpy(out.at(arena, y, 0), s.table + int64_t(std::min(std::max(row, 0), s.count - 1)) * out.channels, out.channels);
    }
}

}  // namespace
