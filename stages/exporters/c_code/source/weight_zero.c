static int32_t weight_zero(const layer_t *p, int32_t row)
{
    return p->weight_zero_point == 0 ? 0 : p->weight_zero_point[p->weight_zero_points > 1 ? row : 0];
}
