/* Rows of x (tokens, groups · inputs), weight (rows, inputs). */
static void linear(const layer_t *p, int32_t tokens, const int8_t *x, const void *residual, void *y)
{
    int32_t token, o, row, k, index = 0;
    for (token = 0; token < tokens; token++) {
        for (o = 0; o < p->outputs; o++) {
            term_t term = 0;
            for (row = o; row < p->rows; row += p->outputs) {
                const int32_t zero_w = weight_zero(p, row);
                const int8_t *w = p->weight + row * p->inputs;
                const int8_t *from = x + row / (p->rows / p->groups) * p->inputs;
                int32_t sum = 0;
                for (k = 0; k < p->inputs; k++) {
                    sum += (from[k] - p->zero_x) * (w[k] - zero_w);
                }
                term += layer_term(p, row, sum);
            }
            layer_store(p, term, residual, y, index++);
        }
        x += p->groups * p->inputs;
    }
}
