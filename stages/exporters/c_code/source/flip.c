/* Unsigned levels as signed ones, 128 lower, and back. */
static void flip(const int8_t *x, int32_t size, int8_t *y)
{
    int32_t i;
    for (i = 0; i < size; i++) {
        y[i] = (int8_t)(x[i] < 0 ? x[i] + 128 : x[i] - 128);
    }
}
