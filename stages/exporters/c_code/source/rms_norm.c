/* Divides by the root of the squares' sum along an axis. */
typedef struct {
    int32_t outer, axis, inner, zero_x, zero_y, low, high, shift;
    int64_t epsilon, floor;
    const int32_t *gamma;
} rms_norm_t;

static void rms_norm(const rms_norm_t *p, const int8_t *x, int8_t *y)
{
    int32_t o, i, k, power;
    for (o = 0; o < p->outer; o++) {
        for (i = 0; i < p->inner; i++) {
            const int32_t first = o * p->axis * p->inner + i;
            int64_t spread = 0, root;
            for (k = 0; k < p->axis; k++) {
                const int64_t c = x[first + k * p->inner] - p->zero_x;
                spread += c * c;
            }
            spread = spread * 1048576 + p->epsilon;
            root = scaled_root(spread < p->floor ? p->floor : spread, &power);
            for (k = 0; k < p->axis; k++) {
                const int64_t c = x[first + k * p->inner] - p->zero_x;
                const int64_t unit = divided(c, power + 41, root);
                const int64_t half = (int64_t)1 << (p->shift - 1);
                const int64_t level = ((unit * p->gamma[k] + half) >> p->shift) + p->zero_y;
                y[first + k * p->inner] = (int8_t)(level < p->low ? p->low : level > p->high ? p->high : level);
            }
        }
    }
}
