/* y[to] = entries[x[from]], as a walk over dimensions. */
static void place(const move_t *p, const int8_t *entries, const int8_t *x, int8_t *y)
{
    int32_t i;
    for (i = 0; i < p->size; i++) {
        const int32_t from = offset_of(i, p->rank, p->sizes, p->from);
        y[offset_of(i, p->rank, p->sizes, p->to)] = entries[x[from] + 128];
    }
}
