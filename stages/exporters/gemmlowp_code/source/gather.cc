// The windows of an image (C, H, W) of signed levels as columns (C * kH * kW) of unsigned ones.
static void gather(const pool_t &w, std::uint8_t zero_point, const std::int8_t *x, std::uint8_t *columns) {
  for (int i = 0; i < w.out_height; i++) {
    for (int j = 0; j < w.out_width; j++) {
      for (int c = 0; c < w.channels; c++) {
        for (int k = 0; k < w.kernel[0]; k++) {
          for (int l = 0; l < w.kernel[1]; l++) {
            const int line = i * w.stride[0] - w.padding[0] + k * w.dilation[0];
            const int column = j * w.stride[1] - w.padding[1] + l * w.dilation[1];
            const bool inside = line >= 0 && line < w.height && column >= 0 && column < w.width;
            const int level = inside ? x[(c * w.height + line) * w.width + column] + 128 : zero_point;
            *columns++ = static_cast<std::uint8_t>(level);
          }
        }
      }
    }
  }
}
