/* The largest level of each window; `least` in the padding, which never wins. */
static void max_pool2d(const pool_t *w, int32_t least, const int8_t *x, int8_t *y)
{
    int32_t c, i, j, k, l;
    for (c = 0; c < w->channels; c++) {
        for (i = 0; i < w->out_height; i++) {
            for (j = 0; j < w->out_width; j++) {
                int32_t best = least;
                for (k = 0; k < w->kernel[0]; k++) {
                    for (l = 0; l < w->kernel[1]; l++) {
                        const int32_t line = i * w->stride[0] - w->padding[0] + k * w->dilation[0];
                        const int32_t column = j * w->stride[1] - w->padding[1] + l * w->dilation[1];
                        if (line >= 0 && line < w->height && column >= 0 && column < w->width
                            && x[line * w->width + column] > best) {
                            best = x[line * w->width + column];
                        }
                    }
                }
                *y++ = (int8_t)best;
            }
        }
        x += w->height * w->width;
    }
}
