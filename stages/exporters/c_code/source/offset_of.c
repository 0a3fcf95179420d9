/* Where the i-th element of a walk over `rank` dimensions lies. */
static int32_t offset_of(int32_t i, int32_t rank, const int32_t *sizes, const int32_t *strides)
{
    int32_t offset = 0;
    int32_t axis;
    for (axis = rank - 1; axis > 0; axis--) {
        offset += i % sizes[axis] * strides[axis];
        i /= sizes[axis];
    }
    return offset + i * strides[0];
}
