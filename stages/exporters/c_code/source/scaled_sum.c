/* TFLite's ADD and SUB: both operands at one scale with 20 more bits, then the output's (reference/add.h). */
typedef struct {
    ratio_t ratios[2], last;
    int32_t zeros[2], sign;
    int32_t size, rank, sizes[RANK], strides[2][RANK];
    int32_t zero_y, low, high;
} scaled_sum_t;

static void scaled_sum(const scaled_sum_t *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    int32_t i;
    for (i = 0; i < p->size; i++) {
        const int32_t first = a[offset_of(i, p->rank, p->sizes, p->strides[0])] - p->zeros[0];
        const int32_t second = b[offset_of(i, p->rank, p->sizes, p->strides[1])] - p->zeros[1];
        const term_t sum = rescale(first * 1048576, p->ratios[0]) + p->sign * rescale(second * 1048576, p->ratios[1]);
        y[i] = (int8_t)finish(rescale((int32_t)sum, p->last), 0, p->zero_y, p->low, p->high);
    }
}
