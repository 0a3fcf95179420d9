/* y = table[x], one table for `inner` elements at a time, in turn over `tables` of them. */
static void table(const int8_t *entries, int32_t tables, int32_t inner, int32_t size, const int8_t *x, int8_t *y)
{
    int32_t i;
    for (i = 0; i < size; i++) {
        y[i] = entries[256 * (i / inner % tables) + x[i] + 128];
    }
}
