// Sums and extremes over rows, over channels or both; group normalization; resampling.
#pragma once
#include <vector>
#include "rows.h"

namespace {

inline Sixteen inverted(Sixteen x) { return differ(x, fill_sixteen(255)); }

// The largest of levels, or of 255 less each for the smallest.
inline void extreme_rows(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const bool smallest = s.operation == SMALLEST;
    for (int y = from; y < to; y++) {
        const int32_t *rows = s.map + int64_t(y) * s.count;
        uint8_t *target = out.at(arena, y, 0);
        Int across = broadcast(0);
        for (int c = 0; c < in.channels; c += 16) {
            Sixteen most = fill_sixteen(0);
            for (int k = 0; k < s.count; k++) {
                const Sixteen levels = load_sixteen(in.at(arena, rows[k], 0) + c);
                most = most_bytes(most, smallest ? inverted(levels) : levels);
            }
            if (s.flatten)
                across = ::most(across, keep(first_lanes(in.channels - c), widen(most)));
            else
                store_sixteen(target + c, smallest ? inverted(most) : most);
        }
        if (s.flatten) *target = uint8_t(smallest ? 255 - largest(across) : largest(across));
    }
}

template <bool FIXED>
void sum_rows(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Rescale<FIXED, false> rescale(s.requantize, 0, s.term);
    const Int zero = broadcast(in.zero_point);
    for (int y = from; y < to; y++) {
        const int32_t *rows = s.map + int64_t(y) * s.count;
        uint8_t *target = out.at(arena, y, 0);
        Int across = broadcast(0);
        for (int c = 0; c < in.channels; c += 16) {
            Int total = broadcast(0);
            for (int k = 0; k < s.count; k++) total = add(total, subtract(widen(load_sixteen(in.at(arena, rows[k], 0) + c)), zero));
            if (s.flatten)
                across = add(across, keep(first_lanes(in.channels - c), total));
            else
                store_sixteen(target + c, narrow(rescale.levels(total)));
        }
        if (s.flatten) store_levels(target, narrow(rescale.levels(broadcast(sum(across)))), 1);
    }
}

// `map` lists the `count` rows of each of the target's; with `flatten`, channels are reduced too.
inline void reduce(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    if (s.operation != SUM) return extreme_rows(s, images, arena, from, to);
    (s.requantize.mode ? sum_rows<true> : sum_rows<false>)(s, images, arena, from, to);
}

// Over groups of channels of all pixels, each divided by a root of its own. `bias` holds gamma, `offset` beta and half
// of a step, `constant` epsilon. Sums are of the whole image, whichever rows are asked for.
inline void group_norm(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Int zero = broadcast(in.zero_point);
    const int padded = (in.channels + 15) / 16 * 16, each = in.channels / s.count;
    static thread_local std::vector<int64_t> sums, squares;
    sums.assign(padded, 0), squares.assign(padded, 0);
    constexpr int FLUSH = 1 << 14;  // as many squares of 8 bits as int32 holds
    alignas(64) int32_t lanes[16];
    const auto flush = [&](Int from_lanes, int64_t *totals) {
        store(lanes, from_lanes);
        for (int i = 0; i < 16; i++) totals[i] += lanes[i];
    };
    for (int y = 0; y < in.height; y++)
        for (int first = 0; first < in.width; first += FLUSH)
            for (int c = 0; c < in.channels; c += 16) {
                Int total = broadcast(0), square = broadcast(0);
                for (int x = first; x < std::min(first + FLUSH, in.width); x++) {
                    const Int d = subtract(widen(load_sixteen(in.at(arena, y, x) + c)), zero);
                    total = add(total, d), square = add(square, multiply(d, d));
                }
                flush(total, sums.data() + c), flush(square, squares.data() + c);
            }
    const int64_t size = int64_t(each) * in.height * in.width;
    const Int count = broadcast(int32_t(size));
    for (int group = 0; group < s.count; group++) {
        int64_t total = 0, square = 0;
        for (int c = group * each; c < (group + 1) * each; c++) total += sums[c], square += squares[c];
        const int64_t spread = std::max<int64_t>(((size * square - total * total) << s.passes) + s.constant, 1);
        const Root root(spread);
        const Affine affine(s, s.up, in.channels);
        const Float factor = affine.factor(root);
        const Int mean = broadcast(int32_t(total));
        for (int y = from; y < to; y++)
            for (int x = 0; x < in.width; x++) {
                const uint8_t *source = in.at(arena, y, x);
                uint8_t *target = out.at(arena, y, x);
                for (int c = group * each; c < (group + 1) * each; c += 16) {
                    const Int d = subtract(multiply(count, subtract(widen(load_sixteen(source + c)), zero)), mean);
                    affine.store(root, factor, d, c, target + c, (group + 1) * each - c, 1);
                }
            }
    }
}

// Weighted sums of rows, and of columns of what they give: for each row of the target `map` has the first of the
// source's, how many, and where their weights are in `map`; `residual_map` the same of columns.
template <bool FIXED>
void resample_as(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Rescale<FIXED, false> rescale(s.requantize, 0, s.term);
    const Int zero = broadcast(in.zero_point);
    const int padded = out.stride;
    static thread_local std::vector<int32_t> line;
    line.resize(int64_t(in.width) * padded);
    for (int y = from; y < to; y++) {
        const int32_t *rows = s.map + 3 * y, *row_weights = s.map + rows[2];
        for (int x = 0; x < in.width; x++)
            for (int c = 0; c < padded; c += 16) {
                Int total = broadcast(0);
                for (int i = 0; i < rows[1]; i++) {
                    const Int d = subtract(widen(load_sixteen(in.at(arena, rows[0] + i, x) + c)), zero);
                    total = add(total, multiply(d, broadcast(row_weights[i])));
                }
                store(line.data() + int64_t(x) * padded + c, total);
            }
        for (int x = 0; x < out.width; x++) {
            const int32_t *columns = s.residual_map + 3 * x, *weights = s.residual_map + columns[2];
            uint8_t *target = out.at(arena, y, x);
            for (int c = 0; c < padded; c += 16) {
                Int total = broadcast(0);
                for (int i = 0; i < columns[1]; i++)
                    total = add(total, multiply(load(line.data() + int64_t(columns[0] + i) * padded + c), broadcast(weights[i])));
                store_sixteen(target + c, narrow(rescale.levels(total)));
            }
        }
    }
}

inline void resample(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.requantize.mode ? resample_as<true> : resample_as<false>)(s, images, arena, from, to);
}

}  // namespace
