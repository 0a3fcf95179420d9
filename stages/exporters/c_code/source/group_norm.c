/* Normalizes groups of channels and all that follows. */
typedef struct {
    int32_t groups, channels, inner, zero_x, zero_y, low, high, shift, bits, units;
    int64_t epsilon;
    const int32_t *gamma;
    const int64_t *offset;
} group_norm_t;

static void group_norm(const group_norm_t *p, const int8_t *x, int8_t *y)
{
    const int32_t channels = p->channels / p->groups, size = channels * p->inner;
    int32_t g, k, power;
    for (g = 0; g < p->groups; g++) {
        int64_t sum = 0, squares = 0, spread, root;
        for (k = 0; k < size; k++) {
            const int64_t c = x[g * size + k] - p->zero_x;
            sum += c;
            squares += c * c;
        }
        spread = (size * squares - sum * sum) * ((int64_t)1 << p->bits) + p->epsilon;
        root = scaled_root(spread < 1 ? 1 : spread, &power);
        for (k = 0; k < size; k++) {
            const int32_t channel = g * channels + k / p->inner;
            const int64_t d = size * (int64_t)(x[g * size + k] - p->zero_x) - sum;
            const int64_t unit = divided(d, p->bits / 2 + power + 31 - p->units, root);
            const int64_t level = ((unit * p->gamma[channel] + p->offset[channel]) >> p->shift) + p->zero_y;
            y[g * size + k] = (int8_t)(level < p->low ? p->low : level > p->high ? p->high : level);
        }
    }
}
