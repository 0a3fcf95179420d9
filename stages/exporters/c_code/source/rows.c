/* y[i, …] = rows[x[i], …]. */
static void rows(const int8_t *entries, int32_t length, int32_t size, const void *x, int32_t wide, int32_t zero, int8_t *y)
{
    int32_t i, j;
    for (i = 0; i < size; i++) {
        const int8_t *row = entries + (load(x, wide, i) - zero) * length;
        for (j = 0; j < length; j++) {
            *y++ = row[j];
        }
    }
}
