/* What layers share: y = clamp(zero_y + rescale(Σ (x − zero_x)(w − zero_w) + bias [+ residual])). */
typedef struct {
    int32_t rows, outputs; /* rows of the weight; an output adds up every outputs-th of them */
    int32_t inputs;        /* input channels of a row */
    int32_t groups;        /* rows / groups rows read the same input channels */
    const int8_t *weight;
    const int32_t *weight_zero_point; /* 0 where all are 0 */
    int32_t weight_zero_points;       /* 1, or one a row */
    const int32_t *bias;
    const ratio_t *ratio;
    int32_t ratios; /* 1, or one a row */
    int32_t zero_x, zero_y, low, high, headroom, wide_y;
    ratio_t residual_ratio;
    int32_t zero_residual, wide_residual;
} layer_t;

static term_t layer_term(const layer_t *p, int32_t row, int32_t sum)
{
    return rescale(row < p->outputs ? sum + p->bias[row] : sum, p->ratio[p->ratios > 1 ? row : 0]);
}

static void layer_store(const layer_t *p, term_t term, const void *residual, void *y, int32_t i)
{
    if (residual != 0) {
        term += rescale(load(residual, p->wide_residual, i) - p->zero_residual, p->residual_ratio);
    }
    store(y, p->wide_y, i, finish(term, p->headroom, p->zero_y, p->low, p->high));
}
