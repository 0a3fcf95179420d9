// How many products a CPU can do: those of a convolution's tile, with all that they need in registers.
#pragma once
#include <type_traits>
#include "panel.h"

namespace {

// The last sums of PIXELS × VECTORS, each of which adds up what `product(sum, vector)` adds in every round. Sums differ from
// the start, or compilers would compute one for all.
template <int PIXELS, int VECTORS, class Product>
int32_t repeated(int64_t rounds, const int32_t *from, const Product &product) {
    Int sum[PIXELS][VECTORS], all = broadcast(0);
#pragma GCC unroll 16
    for (int p = 0; p < PIXELS; p++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) sum[p][v] = broadcast(from[p * VECTORS + v]);
    for (int64_t i = 0; i < rounds; i++)
#pragma GCC unroll 16
        for (int p = 0; p < PIXELS; p++)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; v++) sum[p][v] = product(sum[p][v], v);
#pragma GCC unroll 16
    for (int p = 0; p < PIXELS; p++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) all = add(all, sum[p][v]);
    int32_t lanes[16];
    uint32_t total = 0;  // which wraps
    store(lanes, all);
    for (const int32_t lane : lanes) total += uint32_t(lane);
    return int32_t(total);
}

// Products of single levels and weights in `rounds` rounds of a convolution's tile; `sum` gets what they add up to.
inline int64_t repeat_products(int64_t rounds, const int32_t *from, const uint8_t *levels, const int8_t *weights, int32_t *sum) {
    constexpr int PIXELS = most_pixels(MOST_VECTORS);
    const Four x = four(levels);
    Weights w[MOST_VECTORS];
#pragma GCC unroll 4
    for (int v = 0; v < MOST_VECTORS; v++) w[v] = load_weights(weights + 64 * v);
    *sum = repeated<PIXELS, MOST_VECTORS>(rounds, from, [&](Int to, int v) { return dot(to, x, w[v]); });
    return rounds * PIXELS * MOST_VECTORS * 64;
}

// The same of a tile of `panel.h`, by pairs of products of four.
template <class P>
int64_t repeat_pairs(int64_t rounds, const int32_t *from, const uint8_t *levels, const int8_t *weights, int32_t *sum) {
    auto x = P::four(levels), y = P::four(levels + 4);
    const Int a = load(weights), b = load(weights + 64);
    *sum = repeated<PANEL_PIXELS, 1>(rounds, from, [&](Int to, int) {
        P::opaque(x), P::opaque(y);  // or what is the same in each round would be computed once
        return P::add_widened(to, P::add_pairs(P::pairs(x, a), P::pairs(y, b)));
    });
    return rounds * PANEL_PIXELS * 128;
}

}  // namespace
