/* The elements that an output is made of: `count` from each place of a walk over those that are kept. */
typedef struct {
    int32_t size, rank, sizes[RANK], strides[RANK];
    int32_t count, rank_of_count, sizes_of_count[RANK], strides_of_count[RANK];
} reduce_t;
