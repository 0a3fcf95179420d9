// Layers whose groups of input channels have ratios of their own: each group's sums are rescaled, then added.
#pragma once
#include <vector>
#include "conv.h"

namespace {

// Accumulators and terms of a few rows stay in cache, while the weights of all groups pass.
constexpr int64_t GROUP_LANES = 1 << 13;

// `count` groups, each with `channels` of weights and constants for as many channels as fill blocks of 64.
template <bool FIXED>
void convolve_groups_as(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *residual = s.residual < 0 ? nullptr : &images[s.residual];
    const int vectors = (s.target_channels + 15) / 16, padded = (s.target_channels + 63) / 64 * 64;
    const int64_t weight_bytes = int64_t(s.nibbles ? 8 : 16) * vectors * s.kernel_h * s.kernel_w * s.channels, row = int64_t(out.width) * vectors;
    const int each = int(std::max<int64_t>(1, GROUP_LANES / (16 * row)));
    static thread_local std::vector<int32_t> raw;
    static thread_local std::vector<Terms<FIXED>> terms;
    raw.resize(16 * each * row), terms.resize(each * row);
    EngineStep step = s;
    step.source = 0, step.target = 1, step.residual = -1;
    step.requantize.mode = RAW, step.requantize.narrow = 0;
    for (int first = from; first < to; first += each) {
        const int last = std::min(first + each, to), pixels = (last - first) * out.width;
        Image sums = {out.height, out.width, s.target_channels, 64 * vectors, 0, 0, 0, 4, 0};
        sums.offset = reinterpret_cast<uint8_t *>(raw.data()) - arena - first * sums.row();
        const Image both[2] = {in, sums};
        for (int group = 0; group < s.count; group++) {
            step.weight = s.weight + group * weight_bytes, step.bias = s.bias + group * padded;
            step.source_channel = s.source_channel + group * s.sum_channels;
            if (s.requantize.weight_zero_point) step.requantize.weight_zero_point = s.requantize.weight_zero_point + group * padded;
            convolve(step, both, arena, first, last, 0, s.target_channels);
            for (int v = 0; v < vectors; v++) {
                const Rescale<FIXED, false> rescale(s.requantize, group * padded + 16 * v, s.term);
                for (int p = 0; p < pixels; p++) {
                    Terms<FIXED> &total = terms[p * vectors + v];
                    const Terms<FIXED> own = rescale.terms(load(raw.data() + 16 * (int64_t(p) * vectors + v)));
                    total = group ? rescale.added(total, own) : own;
                }
            }
        }
        const Rescale<FIXED, true> rescale(s.requantize, 0, s.term);
        for (int y = first; y < last; y++)
            for (int x = 0; x < out.width; x++)
                for (int v = 0; v < vectors; v++) {
                    Terms<FIXED> total = terms[(int64_t(y - first) * out.width + x) * vectors + v];
                    if (residual)
                        total = rescale.added(total, rescale.residual_terms(load_levels(residual->at(arena, y, x) + 16 * v * residual->size, residual->size)));
                    store_levels(out.at(arena, y, x) + 16 * v * out.size, rescale.finished(total), out.size);
                }
    }
}

inline void convolve_groups(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    (s.requantize.mode ? convolve_groups_as<true> : convolve_groups_as<false>)(s, images, arena, from, to);
}

}  // namespace
