// Depthwise 3 × 3 with float ratios, the common case: columns stay in registers from one output to the next, and
// levels leave in the order of channels without any reordering.
#pragma once
#include "depthwise.h"

namespace {

// A block of 64 channels at a time. The instruction set's `Part` has the same members for fewer channels: where
// registers are narrower, or a block is.
struct Whole {
    using Register = Int;
    using Taps = Weights;
    using Bounds = Packing;
    static constexpr int CHANNELS = 64;
    static Register load(const void *p) { return ::load(p); }
    static Register zero() { return fill(0); }
    static Register low8(Register a, Register b) { return zip8_low(a, b); }
    static Register high8(Register a, Register b) { return zip8_high(a, b); }
    static Register low16(Register a, Register b) { return zip16_low(a, b); }
    static Register high16(Register a, Register b) { return zip16_high(a, b); }
    static Taps taps(const void *p) { return load_weights(p); }
    static Register dot(Register sum, Register x, Taps w) { return dot_each(sum, x, w); }
    static Register scaled(Register x, const float *ratio) { return rounded(times(floats(x), load_floats(ratio))); }
    // The first `vectors` of 16 levels.
    static void store(uint8_t *out, const Bounds &bounds, const Register *x, int vectors) {
        const Register levels = pack_lanes(bounds, x[0], x[1], x[2], x[3]);
        if (vectors == 4) return ::store(out, levels);
        if (vectors == 1) return store_sixteen(out, quarter<0>(levels));
        store_half<0>(out, levels);
        if (vectors == 3) store_sixteen(out + 32, quarter<2>(levels));
    }
};

template <class V>
inline void load_column(const uint8_t *x, int64_t row, typename V::Register *out) {
    const typename V::Register a = V::load(x), b = V::load(x + row), c = V::load(x + 2 * row), zero = V::zero();
    typename V::Register ab = V::low8(a, b), c0 = V::low8(c, zero);
    out[0] = V::low16(ab, c0), out[1] = V::high16(ab, c0);
    ab = V::high8(a, b), c0 = V::high8(c, zero);
    out[2] = V::low16(ab, c0), out[3] = V::high16(ab, c0);
}

// A row of outputs of V::CHANNELS channels, the first of them `part` channels into the block. PASSES sets of weights add up.
template <class V, int STRIDE, int PASSES>
void depthwise3_row(const uint8_t *x, int64_t row, int64_t pixel, const int8_t *weight, const Block &block, int part, const Requantization &r,
                    uint8_t *out, int64_t out_stride, int width, int vectors) {
    const typename V::Bounds bounds(r.zero_point, r.low + r.zero_point, r.high + r.zero_point);
    typename V::Taps w[PASSES * 3][4];
    typename V::Register columns[3][4];
    for (int i = 0; i < PASSES * 3; i++)
        for (int q = 0; q < 4; q++) w[i][q] = V::taps(weight + (i * 4 + q) * 64 + part);
    for (int i = 0; i < 3 - STRIDE; i++, x += pixel) load_column<V>(x, row, columns[i]);
    for (int p = 0; p < width; p++, out += out_stride) {
        for (int i = 3 - STRIDE; i < 3; i++, x += pixel) load_column<V>(x, row, columns[i]);
        typename V::Register sum[4];
        for (int q = 0; q < 4; q++) {
            sum[q] = V::load(block.bias[q] + part / 4);
            for (int i = 0; i < PASSES * 3; i++) sum[q] = V::dot(sum[q], columns[i % 3][q], w[i][q]);
            sum[q] = V::scaled(sum[q], block.ratio[q] + part / 4);
        }
        V::store(out, bounds, sum, vectors);
        for (int i = 0; i < 3 - STRIDE; i++)
            for (int q = 0; q < 4; q++) columns[i][q] = columns[i + STRIDE][q];
    }
}

constexpr int DEPTHWISE3_PASSES = 3;  // the difference of two levels has no more

template <class V>
constexpr auto depthwise3_of(int stride, int passes) {
    constexpr decltype(&depthwise3_row<V, 1, 1>) of[2][DEPTHWISE3_PASSES] = {
        {depthwise3_row<V, 1, 1>, depthwise3_row<V, 1, 2>, depthwise3_row<V, 1, 3>},
        {depthwise3_row<V, 2, 1>, depthwise3_row<V, 2, 2>, depthwise3_row<V, 2, 3>}};
    return of[stride - 1][passes - 1];
}

inline bool is_depthwise3(const EngineStep &s) {
    return s.kernel_h == 3 && s.kernel_w == 3 && s.passes <= DEPTHWISE3_PASSES && s.dilation_h == 1 && s.dilation_w == 1 && s.stride_w <= 2 &&
           s.residual < 0 && s.requantize.narrow;
}

// Vectors are whole where channels are not: pixels are so far apart.
inline void convolve_depthwise3(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    constexpr int BYTES = 3 * 256;  // of a block's weights in a pass
    const int8_t *weight = s.weight;
    for (int channel = 0; channel < s.channels; channel += 64, weight += s.passes * BYTES) {
        const Block block(s, channel);
        const int vectors = std::min(4, (s.channels - channel + 15) / 16);
        const bool whole = WHOLE_BLOCKS && 16 * vectors > Part::CHANNELS;
        int passes = s.passes;  // of this block: the last ones are for a few channels
        while (passes > 1 && std::all_of(weight + (passes - 1) * BYTES, weight + passes * BYTES, [](int8_t w) { return !w; })) passes--;
        const auto row = whole ? depthwise3_of<Whole>(s.stride_w, passes) : depthwise3_of<Part>(s.stride_w, passes);
        for (int part = 0; part < 16 * vectors; part += whole ? 64 : Part::CHANNELS)
            for (int y = from; y < to; y++)
                row(in.at(arena, y * s.stride_h - s.pad_h, -s.pad_w) + channel + part, in.row(), in.stride, weight, block, part, s.requantize,
                    out.at(arena, y, 0) + channel + part, out.stride, out.width, vectors - part / 16);
    }
}

}  // namespace
