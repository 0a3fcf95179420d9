// y = clamp(result_offset + (sum + bias) * multiplier * 2^(exponent - 31)), all of it in gemmlowp.
struct levels_t {
  product_t product;
  const std::int32_t *bias, *multiplier, *exponent;
  std::int32_t multipliers;  // 1, or one a row
  std::int32_t result_offset, min, max;
};

typedef gemmlowp::VectorMap<const std::int32_t, gemmlowp::VectorShape::Col> Channels;

// Rows first .. first + rows of the result.
#if defined(GEMMLOWP_SSE4) || defined(GEMMLOWP_AVX2) || defined(GEMMLOWP_MSA) || defined(GEMMLOWP_WASMSIMD)
// For these gemmlowp has no output stage of one exponent a channel. Its functions of one number do the same.
template <gemmlowp::MapOrder ORDER>
void scale_by_channel(const levels_t &p, int group, int first, int rows, const std::uint8_t *columns,
                      const gemmlowp::OutputStageBiasAddition<Channels> &bias, std::uint8_t *y) {
  const bool by_rows = ORDER == gemmlowp::MapOrder::RowMajor;
  static std::vector<std::int32_t> sums;
  sums.resize(p.product.rows * p.product.columns);
  multiply_group<ORDER>(p.product, group, columns, sums.data(), std::make_tuple(bias));
  for (int row = first; row < first + rows; row++) {
    const int left = std::max(p.exponent[row], 0), right = std::max(-p.exponent[row], 0);
    for (int column = 0; column < p.product.columns; column++) {
      const int at = by_rows ? row * p.product.columns + column : column * p.product.rows + row;
      const std::int32_t shifted = gemmlowp::ShiftLeft(sums[at], left);
      const std::int32_t high = gemmlowp::SaturatingRoundingDoublingHighMul(shifted, p.multiplier[row]);
      const std::int32_t level = gemmlowp::RoundingDivideByPOT(high, right) + p.result_offset;
      y[at] = static_cast<std::uint8_t>(std::min(std::max(level, p.min), p.max));
    }
  }
}
#else
template <gemmlowp::MapOrder ORDER>
void scale_by_channel(const levels_t &p, int group, int first, int rows, const std::uint8_t *columns,
                      const gemmlowp::OutputStageBiasAddition<Channels> &bias, std::uint8_t *y) {
  const gemmlowp::OutputStageScaleInt32ByFixedPointAndExponentPC<gemmlowp::VectorShape::Col> scale = {
      Channels(p.multiplier + first, rows), Channels(p.exponent + first, rows), p.result_offset};
  const gemmlowp::OutputStageClamp clamp = {p.min, p.max};
  const gemmlowp::OutputStageSaturatingCastToUint8 cast = {};
  multiply_group<ORDER>(p.product, group, columns, y, std::make_tuple(bias, scale, clamp, cast));
}
#endif

template <gemmlowp::MapOrder ORDER>
void multiply_to_levels(const levels_t &p, const std::uint8_t *columns, std::uint8_t *y) {
  const gemmlowp::OutputStageClamp clamp = {p.min, p.max};
  const gemmlowp::OutputStageSaturatingCastToUint8 cast = {};
  const int rows = p.product.rows / p.product.groups;
  for (int group = 0; group < p.product.groups; group++) {
    const int first = group * rows;
    const gemmlowp::OutputStageBiasAddition<Channels> bias = {Channels(p.bias + first, rows)};
    if (p.multipliers == 1) {
      const gemmlowp::OutputStageScaleInt32ByFixedPointAndExponent scale = {p.multiplier[0], p.exponent[0],
                                                                           p.result_offset};
      multiply_group<ORDER>(p.product, group, columns, y, std::make_tuple(bias, scale, clamp, cast));
    } else {
      scale_by_channel<ORDER>(p, group, first, rows, columns, bias, y);
    }
  }
}
