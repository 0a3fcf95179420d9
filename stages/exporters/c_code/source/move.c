/* Levels from one place to another. */
static void move(const move_t *p, const void *x, void *y)
{
    int32_t i;
    for (i = 0; i < p->size; i++) {
        const int32_t from = offset_of(i, p->rank, p->sizes, p->from);
        store(y, p->wide, offset_of(i, p->rank, p->sizes, p->to), load(x, p->wide, from));
    }
}
