/* A walk over dimensions from one place to another. */
typedef struct {
    int32_t size, rank, sizes[RANK], from[RANK], to[RANK], wide;
} move_t;
