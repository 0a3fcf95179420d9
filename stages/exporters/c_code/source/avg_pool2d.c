/* y = clamp(zero_y + rescale(Σ (x − zero_x))) over each window; the ratio holds the division. */
typedef struct {
    pool_t windows;
    ratio_t ratio;
    int32_t zero_x, zero_y, low, high;
} avg_pool2d_t;

static void avg_pool2d(const avg_pool2d_t *p, const int8_t *x, int8_t *y)
{
    const pool_t *w = &p->windows;
    int32_t c, i, j, k, l;
    for (c = 0; c < w->channels; c++) {
        for (i = 0; i < w->out_height; i++) {
            for (j = 0; j < w->out_width; j++) {
                int32_t sum = 0;
                for (k = 0; k < w->kernel[0]; k++) {
                    for (l = 0; l < w->kernel[1]; l++) {
                        const int32_t line = i * w->stride[0] - w->padding[0] + k;
                        const int32_t column = j * w->stride[1] - w->padding[1] + l;
                        if (line >= 0 && line < w->height && column >= 0 && column < w->width) {
                            sum += x[line * w->width + column] - p->zero_x;
                        }
                    }
                }
                *y++ = (int8_t)finish(rescale(sum, p->ratio), 0, p->zero_y, p->low, p->high);
            }
        }
        x += w->height * w->width;
    }
}
