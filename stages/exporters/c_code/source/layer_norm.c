/* Normalizes rows: d = n·c − Σ c, y = clamp(zero_y + ((d / √(Σ d² + eps) · gamma + beta) >> shift)). */
typedef struct {
    int32_t rows, size, zero_x, zero_y, low, high, shift, narrow, wide_x, wide_y;
    int64_t epsilon;
    const int32_t *gamma;
    const int64_t *offset;
} layer_norm_t;

static void layer_norm(const layer_norm_t *p, const void *x, void *y)
{
    int32_t i, k, power;
    for (i = 0; i < p->rows; i++) {
        int64_t sum = 0, spread = 0, root;
        for (k = 0; k < p->size; k++) {
            sum += load(x, p->wide_x, i * p->size + k) - p->zero_x;
        }
        for (k = 0; k < p->size; k++) {
            const int64_t d = (int64_t)p->size * (load(x, p->wide_x, i * p->size + k) - p->zero_x) - sum;
            const int64_t cut = d > 0 ? -(-d >> p->narrow) : d >> p->narrow;
            spread += cut * cut;
        }
        spread = spread * 1024 + p->epsilon;
        root = scaled_root(spread < 1 ? 1 : spread, &power);
        for (k = 0; k < p->size; k++) {
            const int64_t d = (int64_t)p->size * (load(x, p->wide_x, i * p->size + k) - p->zero_x) - sum;
            const int64_t unit = divided(d, power + 36 - p->narrow, root);
            const int64_t level = ((unit * p->gamma[k] + p->offset[k]) >> p->shift) + p->zero_y;
            store(y, p->wide_y, i * p->size + k, (int32_t)(level < p->low ? p->low : level > p->high ? p->high : level));
        }
    }
}
