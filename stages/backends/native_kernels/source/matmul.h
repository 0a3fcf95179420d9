// A product of two values, matrix by matrix: the second is packed as a convolution's weights, 128 taken away.
#pragma once
#include <vector>
#include "conv.h"

namespace {

// The matrix (`rows`, `columns`) at `source`, of int8 with 128 taken away, in the order of weights.py's `pack`;
// `sums` gets Σ over the rows, of each column.
inline void pack_matrix(const uint8_t *source, int64_t stride, int rows, int columns, int8_t *packed, int32_t *sums) {
    const int end = (columns + 15) / 16, dwords = (rows + 3) / 4;
    const __m128i offset = _mm_set1_epi8(-128);
    const __m512i ones = _mm512_set1_epi8(1);
    for (int vector = 0, vectors; vector < end; vector += vectors) {
        vectors = end - vector >= 4 ? 4 : end - vector >= 2 ? 2 : 1;
        for (int v = 0; v < vectors; v++) {
            __m512i sum = _mm512_setzero_si512();
            int8_t *out = packed + int64_t(64) * (vector * dwords + v);
            for (int k = 0; k < dwords; k++, out += 64 * vectors) {
                __m128i row[4];
                for (int i = 0; i < 4; i++) {
                    const uint8_t *sixteen = source + (4 * k + i) * stride + 16 * (vector + v);
                    row[i] = 4 * k + i < rows ? _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i *>(sixteen)), offset)
                                              : _mm_setzero_si128();
                }
                const __m128i low[2] = {_mm_unpacklo_epi8(row[0], row[1]), _mm_unpacklo_epi8(row[2], row[3])};
                const __m128i high[2] = {_mm_unpackhi_epi8(row[0], row[1]), _mm_unpackhi_epi8(row[2], row[3])};
                __m512i four = _mm512_castsi128_si512(_mm_unpacklo_epi16(low[0], low[1]));
                four = _mm512_inserti32x4(four, _mm_unpackhi_epi16(low[0], low[1]), 1);
                four = _mm512_inserti32x4(four, _mm_unpacklo_epi16(high[0], high[1]), 2);
                four = _mm512_inserti32x4(four, _mm_unpackhi_epi16(high[0], high[1]), 3);
                _mm512_storeu_si512(out, four);
                sum = _mm512_dpbusd_epi32(sum, ones, four);
            }
            _mm512_storeu_si512(sums + 16 * (vector + v), sum);
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
        for (int32_t &sum : bias) sum = int32_t(uint32_t(-a.zero_point) * (uint32_t(sum) - all));
        convolve(step, images, arena, std::max(from, matrix * each), std::min(to, (matrix + 1) * each), 0, s.target_channels);
    }
}

}  // namespace
