static void fill(int32_t level, int32_t size, int32_t wide, void *y)
{
    int32_t i;
    for (i = 0; i < size; i++) {
        store(y, wide, i, level);
    }
}
