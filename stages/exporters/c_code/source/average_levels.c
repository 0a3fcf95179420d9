/* TFLite's average pool: the mean of a window's levels, half away from zero; padding does not count. */
typedef struct {
    pool_t windows;
    int32_t low, high;
} average_levels_t;

static void average_levels(const average_levels_t *p, const int8_t *x, int8_t *y)
{
    const pool_t *w = &p->windows;
    int32_t c, i, j, k, l;
    for (c = 0; c < w->channels; c++) {
        for (i = 0; i < w->out_height; i++) {
            for (j = 0; j < w->out_width; j++) {
                int32_t sum = 0, count = 0;
                for (k = 0; k < w->kernel[0]; k++) {
                    for (l = 0; l < w->kernel[1]; l++) {
                        const int32_t line = i * w->stride[0] - w->padding[0] + k;
                        const int32_t column = j * w->stride[1] - w->padding[1] + l;
                        if (line >= 0 && line < w->height && column >= 0 && column < w->width) {
                            sum += x[line * w->width + column];
                            count++;
                        }
                    }
                }
                sum = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
                *y++ = (int8_t)(sum < p->low ? p->low : sum > p->high ? p->high : sum);
            }
        }
        x += w->height * w->width;
    }
}
