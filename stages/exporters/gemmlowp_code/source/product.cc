// A layer's product of matrices: groups of rows of uint8 weights times columns of uint8 levels.
struct product_t {
  const std::uint8_t *weight;      // (rows, depth)
  const std::int32_t *lhs_offset;  // minus the weights' zero points
  std::int32_t lhs_offsets;        // 1, or one a row
  std::int32_t rhs_offset;         // minus the input's zero point
  std::int32_t rows, depth, groups, columns;
};

static gemmlowp::GemmContext context;

// Columns hold all groups' inputs, one group after the other, and results all groups' rows.
template <gemmlowp::MapOrder ORDER, typename Result, typename Pipeline>
void multiply_group(const product_t &p, int group, const std::uint8_t *columns, Result *result,
                    const Pipeline &pipeline) {
  using gemmlowp::MapOrder;
  using gemmlowp::VectorShape;
  const int rows = p.rows / p.groups, first = group * rows;
  const bool by_rows = ORDER == MapOrder::RowMajor;
  const gemmlowp::MatrixMap<const std::uint8_t, MapOrder::RowMajor> lhs(p.weight + first * p.depth, rows,
                                                                        p.depth);
  const gemmlowp::MatrixMap<const std::uint8_t, MapOrder::ColMajor> rhs(
      columns + group * p.depth, p.depth, p.columns, p.groups * p.depth);
  gemmlowp::MatrixMap<Result, ORDER> out(result + (by_rows ? first * p.columns : first), rows, p.columns,
                                         by_rows ? p.columns : p.rows);
  if (p.lhs_offsets == 1) {
    gemmlowp::GemmWithOutputPipeline<std::uint8_t, Result, gemmlowp::DefaultL8R8BitDepthParams>(
        &context, lhs, rhs, &out, p.lhs_offset[0], p.rhs_offset, pipeline);
  } else {
    const gemmlowp::VectorMap<const std::int32_t, VectorShape::Col> lhs_offset(p.lhs_offset + first, rows);
    const gemmlowp::VectorDup<const std::int32_t, VectorShape::Row> rhs_offset(p.rhs_offset, p.columns);
    gemmlowp::GemmWithOutputPipelinePC<std::uint8_t, Result, gemmlowp::DefaultL8R8BitDepthParams>(
        &context, lhs, rhs, &out, lhs_offset, rhs_offset, pipeline);
  }
}
