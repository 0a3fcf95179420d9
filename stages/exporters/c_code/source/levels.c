/* Levels of 8 bits, or of 32 where they are wide. */
static int32_t load(const void *values, int32_t wide, int32_t i)
{
    return wide ? ((const int32_t *)values)[i] : ((const int8_t *)values)[i];
}
