/* y = clamp(zero_y + rescale(Σ_ij rows[o, i] · columns[p, j] · (x[c, i, j] − zero_x))). */
typedef struct {
    int32_t channels, height, width, out_height, out_width;
    const int32_t *rows, *columns;
    ratio_t ratio;
    int32_t zero_x, zero_y, low, high;
} resample_t;

static void resample(const resample_t *p, const int8_t *x, int8_t *y)
{
    int32_t c, o, q, i, j;
    for (c = 0; c < p->channels; c++) {
        for (o = 0; o < p->out_height; o++) {
            for (q = 0; q < p->out_width; q++) {
                int64_t sum = 0;
                for (i = 0; i < p->height; i++) {
                    int64_t line = 0;
                    for (j = 0; j < p->width; j++) {
                        line += (int64_t)p->columns[q * p->width + j] * (x[i * p->width + j] - p->zero_x);
                    }
                    sum += p->rows[o * p->height + i] * line;
                }
                *y++ = (int8_t)finish(rescale((int32_t)sum, p->ratio), 0, p->zero_y, p->low, p->high);
            }
        }
        x += p->height * p->width;
    }
}
