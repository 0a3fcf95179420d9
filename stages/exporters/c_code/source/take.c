/* y[o, j, i] = x[o, indices[j], i]. */
typedef struct {
    int32_t outer, axis, inner, count, wide;
    const int32_t *indices;
} take_t;

static void take(const take_t *p, const void *x, void *y)
{
    int32_t o, j, i, index = 0;
    for (o = 0; o < p->outer; o++) {
        for (j = 0; j < p->count; j++) {
            for (i = 0; i < p->inner; i++) {
                store(y, p->wide, index++, load(x, p->wide, (o * p->axis + p->indices[j]) * p->inner + i));
            }
        }
    }
}
