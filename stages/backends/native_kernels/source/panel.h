// Convolution where products of a level and a weight add up in pairs of 16 bits, which saturate: AVX2's `vpmaddubsw`
// without VNNI. Exact by way of 7-bit levels.
//
// The planner gives an offset s in 0..128, next to the zero point (panels.py), and a bias with s·Σ w in it. A level x
// is x − s = y + h, with y = (x − s) mod 128 in 0..127 and h in {−128, 0, 128}; h is 0 for all x in s .. s + 127, which
// are nearly all.
//
// - Σ y·w: a pair of products lies within 127·(−128 − 128) = −32512 and 127·(127 + 127) = 32258: int16 holds it, whatever
//   the weights. Two such pairs are added in int16 before they are widened where the planner has seen that the
//   positive weights among the four add up to 258 at most, and so do the negative ones: 127·258 = 32766.
// - Σ h·w: the few h ≠ 0 are listed while levels are copied. 128·(w + w') lies within −32768 and 32512.
//
// Windows of four output pixels lie side by side in a panel, dword by dword, so that all the kernel does is to run along.
// A panel with too many h ≠ 0 keeps its levels as they are, for products that are widened first.
#pragma once
#include <type_traits>
#include <vector>
#include "conv.h"

namespace {

constexpr int PANEL_PIXELS = 4;  // of a tile, with 16 channels: eight accumulators of eight lanes, and operands
constexpr int PANEL_MOST = 48;   // pixels of a panel
constexpr int PANEL_LEAST = 24;
constexpr int64_t PANEL_BYTES = 16384;  // which it may pass where `PANEL_LEAST` pixels do
constexpr int RARE_MOST = 124;          // rare ones whose sums int16 holds: 124·2·128
constexpr int WHOLE_TOO = 64;           // panels after a dense one that are taken for dense

// The dwords of a panel's windows with an h of 128, or of −128. Those of a tile's pixels lie side by side, and are as many
// for each: a loop for all of them ends where it does for one.
struct Rares {
    struct List {
        std::vector<int32_t> dwords;   // of the window
        std::vector<uint32_t> levels;  // 1 in the bytes that it is
        size_t size;

        void room(size_t most) {
            if (dwords.size() < most) dwords.resize(most), levels.resize(most);
        }
    };
    List all, of_tile[PANEL_PIXELS];
    int32_t first[PANEL_MOST / PANEL_PIXELS + 2];  // of each tile

    // For a panel of so many pixels' windows; eight are written at a time.
    void clear(int64_t pixels, int64_t dwords) {
        all.room((pixels + PANEL_PIXELS) * dwords), all.size = 0, first[0] = 0;
        for (List &list : of_tile) list.room(dwords + 8), list.size = 0;
    }
    // Joins the lists of a tile. Short ones are filled up with levels of 0.
    void join(int pixel) {
        size_t most = 0;
        for (const List &list : of_tile) most = std::max(most, list.size);
        for (int p = 0; p < PANEL_PIXELS; p++) {
            List &list = of_tile[p];
            for (size_t i = 0; i < most; i++) {
                const size_t to = all.size + PANEL_PIXELS * i + p;
                all.dwords[to] = i < list.size ? list.dwords[i] : 0, all.levels[to] = i < list.size ? list.levels[i] : 0;
            }
            list.size = 0;
        }
        all.size += PANEL_PIXELS * most;
        first[pixel / PANEL_PIXELS + 1] = int32_t(all.size);
    }
};

struct Panel {
    std::vector<uint8_t> levels;  // (tile, dword, pixel, 4)
    Rares above, below;           // h = 128, h = −128
    int64_t dwords;

    uint8_t *tile(int pixel) { return levels.data() + pixel * dwords * 4; }
};

// What the tile's pixels have in one run of bytes, from `dword` of the window on; of `pixels` that there are.
template <class P, bool WHOLE>
void append_run(Panel &panel, int first, int pixels, const uint8_t *const *x, int64_t step, int bytes, int offset, int64_t dword) {
    uint8_t *to = panel.tile(first) + dword * 16;
    for (int at = 0; at < bytes; at += 32, dword += 8, to += 128) {
        typename P::Register levels[PANEL_PIXELS], rare[PANEL_PIXELS];
        for (int p = 0; p < PANEL_PIXELS; p++) levels[p] = P::load(x[p] + step + at);
        if (!WHOLE) {
            for (int p = 0; p < PANEL_PIXELS; p++) {
                const auto shifted = P::shifted(levels[p], offset);
                rare[p] = P::top_bits(shifted, bytes - at), levels[p] = P::low_bits(shifted);
            }
            if (P::any(rare[0], rare[1], rare[2], rare[3])) {
                const auto list = [&](Rares &to, int p, typename P::Register which) {
                    Rares::List &of = to.of_tile[p];
                    of.size += P::compress(which, int32_t(dword), of.dwords.data() + of.size, of.levels.data() + of.size);
                };
                // s is at most 128: levels below it have no top bit, those from s + 128 on have
                for (int p = 0; p < pixels; p++) {
                    const auto level = P::load(x[p] + step + at);
                    list(panel.above, p, P::both(rare[p], level));
                    if (offset) list(panel.below, p, P::only(rare[p], level));
                }
            }
        }
        P::store_dwords(to, levels);
    }
}

// Levels of `pixels` output pixels from the one in row `y` and column `x` on, row after row; false where of a pixel
// more than `most` dwords have an h ≠ 0, on average and with some allowance at the start.
template <class P, bool WHOLE>
bool fill_panel(Panel &panel, const EngineStep &s, const Image &in, uint8_t *arena, const Window &window, int width, int y, int x, int pixels,
                int64_t most) {
    panel.above.clear(pixels, panel.dwords), panel.below.clear(pixels, panel.dwords);
    for (int first = 0; first < pixels; first += PANEL_PIXELS) {
        const uint8_t *corners[PANEL_PIXELS];
        const int here = std::min(PANEL_PIXELS, pixels - first);
        for (int p = 0; p < PANEL_PIXELS; p++) {  // the last one stands for those beyond
            corners[p] = in.at(arena, y * s.stride_h - s.pad_h, x * s.stride_w - s.pad_w) + s.source_channel;
            if (first + p + 1 < pixels && ++x == width) x = 0, y++;
        }
        int64_t dword = 0;
        for (int i = 0; i < window.rows; i++)
            for (int j = 0; j < window.runs; j++, dword += window.dwords)
                append_run<P, WHOLE>(panel, first, here, corners, i * window.row_step + j * window.run_step, 4 * window.dwords, s.level_offset, dword);
        panel.above.join(first), panel.below.join(first);
        if (int64_t(panel.above.all.size + panel.below.all.size) > most * (first + here + 2 * PANEL_PIXELS)) return false;
    }
    return true;
}

// Adds `scale`·Σ w of a tile's lists; `places` are the window's dwords among the weights.
template <class P, int PIXELS>
void add_rares(Int (&sum)[PIXELS][1], const Rares &rares, int tile, const int8_t *weight, const uint16_t *places, int scale) {
    const int32_t *dwords = rares.all.dwords.data();
    const uint32_t *levels = rares.all.levels.data();
    for (int at = rares.first[tile], end = rares.first[tile + 1]; at < end;) {
        Int some[PIXELS];
#pragma GCC unroll 4
        for (int p = 0; p < PIXELS; p++) some[p] = broadcast(0);
        for (const int stop = std::min(end, at + PANEL_PIXELS * RARE_MOST); at < stop; at += PANEL_PIXELS)
#pragma GCC unroll 4
            for (int p = 0; p < PIXELS; p++)
                some[p] = P::add_pairs(some[p], P::pairs(P::four(levels + at + p), load(weight + 64 * int64_t(places[dwords[at + p]]))));
#pragma GCC unroll 4
        for (int p = 0; p < PIXELS; p++) sum[p][0] = P::add_scaled(sum[p][0], some[p], scale);
    }
}

// Accumulators of PIXELS pixels of the panel and the 16 channels of a vector, whose weights lie in the planner's order.
template <class P, int PIXELS, End END, bool WHOLE>
void accumulate_panel(const EngineStep &s, Panel &panel, int pixel, const int8_t *weight, const uint16_t *order, int pairs, const int32_t *bias,
                      const int32_t *sums, const Tile &tile) {
    const uint8_t *x = panel.tile(pixel);
    const int64_t dwords = panel.dwords;
    Int sum[PIXELS][1];
#pragma GCC unroll 4
    for (int p = 0; p < PIXELS; p++) {
        sum[p][0] = load(bias);
    }
    if (!WHOLE) {
        add_rares<P>(sum, panel.above, pixel / PANEL_PIXELS, weight, order + dwords, 128);
        if (s.level_offset) add_rares<P>(sum, panel.below, pixel / PANEL_PIXELS, weight, order + dwords, -128);
    }
    const uint16_t *at = order, *end = order + (WHOLE ? 0 : 2 * pairs);
    for (; at < end; at += 2, weight += 128) {
        const uint8_t *a = x + 8 * int64_t(at[0]), *b = x + 8 * int64_t(at[1]);
        const Int v = load(weight), w = load(weight + 64);
#pragma GCC unroll 4
        for (int p = 0; p < PIXELS; p++)
            sum[p][0] = P::add_widened(sum[p][0], P::add_pairs(P::pairs(P::four(a + 4 * p), v), P::pairs(P::four(b + 4 * p), w)));
    }
    for (end = order + dwords; at < end; at++, weight += 64) {
        const uint8_t *a = x + 8 * int64_t(*at);
        if (WHOLE) {
            const Weights w = load_weights(weight);
#pragma GCC unroll 4
            for (int p = 0; p < PIXELS; p++) sum[p][0] = dot(sum[p][0], four(a + 4 * p), w);
        } else {
            const Int w = load(weight);
#pragma GCC unroll 4
            for (int p = 0; p < PIXELS; p++) sum[p][0] = P::add_widened(sum[p][0], P::pairs(P::four(a + 4 * p), w));
        }
    }
    if (sums) {  // takes zw·Σ qx away
        const Int zero_point = load(s.requantize.weight_zero_point + tile.channel);
#pragma GCC unroll 4
        for (int p = 0; p < PIXELS; p++) sum[p][0] = subtract(sum[p][0], multiply(zero_point, broadcast(sums[p])));
    }
    if (END == End::STORED) {
#pragma GCC unroll 4
        for (int p = 0; p < PIXELS; p++) store(tile.acc + 16 * p, sum[p][0]);
    } else {
        finish_packed<1, PIXELS, END == End::PACKED_WITH_RESIDUAL>(sum, s.requantize, s.term, tile);
    }
}

template <class P>
using AccumulatePanel = decltype(&accumulate_panel<P, 1, End::STORED, true>);

template <class P, End END, bool WHOLE>
AccumulatePanel<P> panel_accumulator_of(int pixels) {
    constexpr AccumulatePanel<P> of[] = {accumulate_panel<P, 1, END, WHOLE>, accumulate_panel<P, 2, END, WHOLE>, accumulate_panel<P, 3, END, WHOLE>,
                                         accumulate_panel<P, 4, END, WHOLE>};
    return of[pixels - 1];
}

template <class P, bool WHOLE>
AccumulatePanel<P> panel_accumulator(End end, int pixels) {
    switch (end) {
        case End::PACKED: return panel_accumulator_of<P, End::PACKED, WHOLE>(pixels);
        case End::PACKED_WITH_RESIDUAL: return panel_accumulator_of<P, End::PACKED_WITH_RESIDUAL, WHOLE>(pixels);
        default: return panel_accumulator_of<P, End::STORED, WHOLE>(pixels);
    }
}

// Output rows `from` .. `to` − 1 of the channels `first` (a multiple of 16) .. `last` − 1.
template <class P>
void convolve_panels(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to, int first, int last) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *residual = s.residual < 0 ? nullptr : &images[s.residual];
    const Geometry g(s, in);
    static thread_local Panel panel;
    panel.dwords = int64_t(g.window.rows) * g.window.runs * g.window.dwords;
    const int most = int(std::max<int64_t>(PANEL_LEAST, std::min<int64_t>(PANEL_MOST, PANEL_BYTES / panel.dwords / 16 * 4)));
    panel.levels.resize(most * panel.dwords * 4 + 128);
    const bool joined = !out.border_w && (!residual || !residual->border_w);  // output rows are one
    const int width = joined ? out.width * (to - from) : out.width, rows = joined ? from + 1 : to;
    alignas(64) int32_t acc[PANEL_PIXELS * 16];
    const int32_t *sums = window_sums(s, in, out, arena, from, to);
    // Listing a dword takes as long as multiplying some 8 that are in no list, and adding it up more than one, in each vector.
    const int64_t vectors = (last - first + 15) / 16, rare = panel.dwords * vectors / (3 * vectors + 20);
    int whole = 0;
    for (int y = from; y < rows; y++)
        for (int column = 0; column < width; column += most) {
            const int pixels = std::min(most, width - column), row = y + column / out.width, x = column % out.width;
            whole = whole > 1 ? whole - 1 : fill_panel<P, false>(panel, s, in, arena, g.window, out.width, row, x, pixels, rare) ? 0 : WHOLE_TOO;
            if (whole) fill_panel<P, true>(panel, s, in, arena, g.window, out.width, row, x, pixels, 0);
            for (int channel = first; channel < last; channel += 16) {
                const int vector = channel / 16;
                const int8_t *weight = s.weight + vector * g.weight_bytes;
                const uint16_t *order = s.order + 2 * vector * panel.dwords;
                const int32_t *bias = (whole ? s.bias : s.panel_bias) + channel;
                Tile tile = {acc, 0, 1, channel, s.target_channels, out.stride / out.size - s.target_channel - channel, nullptr, out.stride, nullptr, 0,
                             out.size, residual ? residual->size : 1};
                const bool packed = s.requantize.narrow && tile.whole(0);
                const End end = !packed ? End::STORED : residual ? End::PACKED_WITH_RESIDUAL : End::PACKED;
                tile.out = out.at(arena, y, 0) + int64_t(column) * out.stride + int64_t(s.target_channel + channel) * out.size;
                if (residual) {
                    tile.residual_stride = residual->stride;
                    tile.residual = residual->at(arena, y, 0) + int64_t(column) * residual->stride + int64_t(s.target_channel + channel) * residual->size;
                }
                for (int p = 0; p < pixels; p += PANEL_PIXELS) {
                    tile.pixels = std::min(PANEL_PIXELS, pixels - p);
                    const auto each = whole ? panel_accumulator<P, true>(end, tile.pixels) : panel_accumulator<P, false>(end, tile.pixels);
                    each(s, panel, p, weight, order, s.pairs[vector], bias, sums ? sums + int64_t(y - from) * out.width + column + p : nullptr, tile);
                    if (!packed) finish(s.requantize, s.term, tile);
                    tile.out += PANEL_PIXELS * tile.out_stride;
                    if (residual) tile.residual += PANEL_PIXELS * tile.residual_stride;
                }
            }
        }
}

// As `convolve`, by panels where the instruction set has `Pairs` and the planner has ordered weights for them.
inline void convolve_best(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to, int first, int last) {
    if constexpr (!std::is_void_v<Pairs>) {
        if (s.order) return convolve_panels<Pairs>(s, images, arena, from, to, first, last);
    }
    if constexpr (!std::is_void_v<Twos>) {
        if (s.twos) return convolve_widened<Twos>(s, images, arena, from, to, first, last);
    }
    convolve(s, images, arena, from, to, first, last);
}

}  // namespace
