/* y = clamp(zero_y + rescale((a − zero_a)(b − zero_b))). */
typedef struct {
    ratio_t ratio;
    int32_t zeros[2];
    int32_t size, rank, sizes[RANK], strides[2][RANK];
    int32_t zero_y, low, high;
} multiply_t;

static void multiply(const multiply_t *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    int32_t i;
    for (i = 0; i < p->size; i++) {
        const int32_t first = a[offset_of(i, p->rank, p->sizes, p->strides[0])] - p->zeros[0];
        const int32_t second = b[offset_of(i, p->rank, p->sizes, p->strides[1])] - p->zeros[1];
        y[i] = (int8_t)finish(rescale(first * second, p->ratio), 0, p->zero_y, p->low, p->high);
    }
}
