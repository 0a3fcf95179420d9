// A product of two values, matrix by matrix: the second is packed as a convolution's weights, 128 taken away.
#pragma once
#include <vector>
#include "conv.h"

namespace {

// The matrix (`rows`, `columns`) at `source`, of int8 with 128 taken away, in the order of weights.py's `pack`;
// `sums` gets Σ over the rows, of each column.
inline void pack_matrix(const uint8_t *source, int64_t stride, int rows, int columns, int8_t *packed, int32_t *sums) {
    const int end = (columns + 15) / 16, dwords = (rows + 3) / 4;
    const Sixteen offset = fill_sixteen(128);
    for (int vector = 0, vectors; vector < end; vector += vectors) {
        vectors = end - vector >= 4 ? 4 : end - vector >= 2 ? 2 : 1;
        for (int v = 0; v < vectors; v++) {
            Int sum = broadcast(0);
            int8_t *out = packed + int64_t(64) * (vector * dwords + v);
            for (int k = 0; k < dwords; k++, out += 64 * vectors) {
                Sixteen row[4];
                for (int i = 0; i < 4; i++)
                    row[i] = 4 * k + i < rows ? differ(load_sixteen(source + (4 * k + i) * stride + 16 * (vector + v)), offset) : fill_sixteen(0);
                const Sixteen low[2] = {zip8_low(row[0], row[1]), zip8_low(row[2], row[3])};
                const Sixteen high[2] = {zip8_high(row[0], row[1]), zip8_high(row[2], row[3])};
                const Int four = join(zip16_low(low[0], low[1]), zip16_high(low[0], low[1]), zip16_low(high[0], high[1]), zip16_high(high[0], high[1]));
                store(out, four);
                sum = sum_fours(sum, four);
            }
            store(sums + 16 * (vector + v), sum);
        }
    }
}

// Output rows `from` .. `to` − 1; the first value's rows are split evenly among the matrices of the second.
inline void multiply_matrices(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &a = images[s.source], &b = images[s.residual];
    const int inner = s.sum_channels, columns = (s.target_channels + 15) / 16 * 16, each = a.height / (b.height / inner);
    static thread_local std::vector<int8_t> packed;
    static thread_local std::vector<int32_t> bias;
    packed.resize(int64_t(columns) * s.channels), bias.resize(columns);
    EngineStep step = s;
    step.residual = -1, step.weight = packed.data(), step.bias = bias.data();
    const uint32_t all = uint32_t(inner) * uint32_t(b.zero_point - 128);
    for (int matrix = from / each; matrix * each < to; matrix++) {
        pack_matrix(b.at(arena, matrix * inner, 0), b.stride, inner, columns, packed.data(), bias.data());
        for (int32_t &sum : bias) sum = int32_t(uint32_t(-a.zero_point) * (uint32_t(sum) - all) + uint32_t(DOT_OFFSET) * uint32_t(sum));
        convolve(step, images, arena, std::max(from, matrix * each), std::min(to, (matrix + 1) * each), 0, s.target_channels);
    }
}

}  // namespace
