/* y[…, i, j] = clamp(zero_y + rescale(Σ_k (a[…, i, k] − zero_a)(b[…, k, j] − zero_b))). */
typedef struct {
    ratio_t ratio;
    int32_t zeros[2];
    int32_t matrices, rank, sizes[RANK], strides[2][RANK];
    int32_t rows, inner, columns;
    int32_t zero_y, low, high;
} matmul_t;

static void matmul(const matmul_t *p, const int8_t *a, const int8_t *b, int8_t *y)
{
    int32_t m, i, j, k;
    for (m = 0; m < p->matrices; m++) {
        const int8_t *left = a + offset_of(m, p->rank, p->sizes, p->strides[0]);
        const int8_t *right = b + offset_of(m, p->rank, p->sizes, p->strides[1]);
        for (i = 0; i < p->rows; i++) {
            for (j = 0; j < p->columns; j++) {
                int32_t sum = 0;
                for (k = 0; k < p->inner; k++) {
                    sum += (left[i * p->inner + k] - p->zeros[0]) * (right[k * p->columns + j] - p->zeros[1]);
                }
                *y++ = (int8_t)finish(rescale(sum, p->ratio), 0, p->zero_y, p->low, p->high);
            }
        }
    }
}
