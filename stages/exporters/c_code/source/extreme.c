/* The largest level along some dimensions, or the smallest. */
static void extreme(const reduce_t *r, int32_t largest, const int8_t *x, int8_t *y)
{
    int32_t i, k;
    for (i = 0; i < r->size; i++) {
        const int8_t *from = x + offset_of(i, r->rank, r->sizes, r->strides);
        int8_t best = from[0];
        for (k = 1; k < r->count; k++) {
            const int8_t level = from[offset_of(k, r->rank_of_count, r->sizes_of_count, r->strides_of_count)];
            if (largest ? level > best : level < best) {
                best = level;
            }
        }
        y[i] = best;
    }
}
