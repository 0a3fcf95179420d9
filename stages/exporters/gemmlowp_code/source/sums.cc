// A layer's sums as int32, and the levels that our own arithmetic makes of them.
template <gemmlowp::MapOrder ORDER>
void multiply_to_sums(const product_t &p, const layer_t &layer, const std::uint8_t *columns,
                      std::int32_t *sums, const void *residual, void *y) {
  const bool by_rows = ORDER == gemmlowp::MapOrder::RowMajor;
  for (int group = 0; group < p.groups; group++) {
    multiply_group<ORDER>(p, group, columns, sums, std::tuple<>());
  }
  for (int output = 0; output < layer.outputs; output++) {
    for (int column = 0; column < p.columns; column++) {
      term_t term = 0;
      for (int row = output; row < p.rows; row += layer.outputs) {
        term += layer_term(&layer, row, sums[by_rows ? row * p.columns + column : column * p.rows + row]);
      }
      layer_store(&layer, term, residual, y,
                  by_rows ? output * p.columns + column : column * layer.outputs + output);
    }
  }
}
