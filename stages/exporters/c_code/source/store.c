static void store(void *values, int32_t wide, int32_t i, int32_t level)
{
    if (wide) {
        ((int32_t *)values)[i] = level;
    } else {
        ((int8_t *)values)[i] = (int8_t)level;
    }
}
