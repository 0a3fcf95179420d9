/* y = clamp(zero_y + Σ rescale(x_i − zero_i)), or the difference, the larger or the smaller of two terms. */
enum { ADD, SUBTRACT, MAXIMUM, MINIMUM };

typedef struct {
    ratio_t ratio;
    int32_t zero, wide;
    int32_t strides[RANK];
} operand_t;

typedef struct {
    int32_t kind, count;
    const operand_t *operands;
    int32_t size, rank, sizes[RANK];
    int32_t zero_y, low, high, headroom, wide_y;
} combine_t;

static void combine(const combine_t *p, const void *const *inputs, void *y)
{
    int32_t i, k;
    for (i = 0; i < p->size; i++) {
        term_t total = 0;
        for (k = 0; k < p->count; k++) {
            const operand_t *o = &p->operands[k];
            const int32_t at = offset_of(i, p->rank, p->sizes, o->strides);
            const term_t term = rescale(load(inputs[k], o->wide, at) - o->zero, o->ratio);
            if (k == 0) {
                total = term;
            } else if (p->kind == ADD) {
                total += term;
            } else if (p->kind == SUBTRACT) {
                total -= term;
            } else if (p->kind == MAXIMUM ? term > total : term < total) {
                total = term;
            }
        }
        store(y, p->wide_y, i, finish(total, p->headroom, p->zero_y, p->low, p->high));
    }
}
