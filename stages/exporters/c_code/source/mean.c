/* y = clamp(zero_y + rescale(Σ (x − zero_x))) along some dimensions; the ratio holds the division. */
typedef struct {
    reduce_t along;
    ratio_t ratio;
    int32_t zero_x, zero_y, low, high;
} mean_t;

static void mean(const mean_t *p, const int8_t *x, int8_t *y)
{
    const reduce_t *r = &p->along;
    int32_t i, k;
    for (i = 0; i < r->size; i++) {
        const int8_t *from = x + offset_of(i, r->rank, r->sizes, r->strides);
        int32_t sum = 0;
        for (k = 0; k < r->count; k++) {
            sum += from[offset_of(k, r->rank_of_count, r->sizes_of_count, r->strides_of_count)] - p->zero_x;
        }
        y[i] = (int8_t)finish(rescale(sum, p->ratio), 0, p->zero_y, p->low, p->high);
    }
}
