/* a = exponentials[max x − x]; y = clamp(zero_y + ⌊(2·a·inverse + Σa·2^14) / (Σa·2^15)⌋) along an axis. */
typedef struct {
    int32_t outer, axis, inner;
    const int32_t *exponentials;
    int64_t inverse;
    int32_t zero_y, low, high;
    int32_t zero_keep, rank, sizes[RANK], keep[RANK]; /* the second input, as a walk over the first */
} softmax_t;

static int32_t takes_part(const softmax_t *p, const int8_t *keep, int32_t i)
{
    return keep == 0 || keep[offset_of(i, p->rank, p->sizes, p->keep)] != p->zero_keep;
}

static void softmax(const softmax_t *p, const int8_t *x, const int8_t *keep, int8_t *y)
{
    int32_t o, i, k;
    for (o = 0; o < p->outer; o++) {
        for (i = 0; i < p->inner; i++) {
            const int32_t first = o * p->axis * p->inner + i;
            int32_t largest = -128;
            int64_t total = 0;
            for (k = 0; k < p->axis; k++) {
                const int32_t at = first + k * p->inner;
                largest = takes_part(p, keep, at) && x[at] > largest ? x[at] : largest;
            }
            for (k = 0; k < p->axis; k++) {
                const int32_t at = first + k * p->inner;
                total += takes_part(p, keep, at) ? p->exponentials[largest - x[at]] : 0;
            }
            total = total == 0 ? 1 : total;
            for (k = 0; k < p->axis; k++) {
                const int32_t at = first + k * p->inner;
                const int64_t a = takes_part(p, keep, at) ? p->exponentials[largest - x[at]] : 0;
                const int64_t level = (2 * a * p->inverse + total * 16384) / (total * 32768) + p->zero_y;
                y[at] = (int8_t)(level < p->low ? p->low : level > p->high ? p->high : level);
            }
        }
    }
}
