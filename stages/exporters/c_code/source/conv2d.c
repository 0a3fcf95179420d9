typedef struct {
    layer_t layer;
    int32_t height, width, out_height, out_width;
    int32_t kernel[2], stride[2], padding[2], dilation[2];
} conv2d_t;

static int32_t window_sum(const conv2d_t *p, int32_t row, const int8_t *x, int32_t top, int32_t left)
{
    const int32_t zero_w = weight_zero(&p->layer, row), zero_x = p->layer.zero_x;
    const int8_t *w = p->layer.weight + row * p->layer.inputs * p->kernel[0] * p->kernel[1];
    int32_t sum = 0, c, i, j;
    x += row / (p->layer.rows / p->layer.groups) * p->layer.inputs * p->height * p->width;
    for (c = 0; c < p->layer.inputs; c++) {
        for (i = 0; i < p->kernel[0]; i++) {
            const int32_t line = top + i * p->dilation[0];
            if (line >= 0 && line < p->height) {
                const int8_t *from = x + line * p->width;
                for (j = 0; j < p->kernel[1]; j++) {
                    const int32_t column = left + j * p->dilation[1];
                    if (column >= 0 && column < p->width) {
                        sum += (from[column] - zero_x) * (w[j] - zero_w);
                    }
                }
            }
            w += p->kernel[1];
        }
        x += p->height * p->width;
    }
    return sum;
}

/* Images (C, H, W), weight (O, C / groups, kH, kW); padding adds nothing. */
static void conv2d(const conv2d_t *p, const int8_t *x, const void *residual, void *y)
{
    int32_t o, i, j, row, index = 0;
    for (o = 0; o < p->layer.outputs; o++) {
        for (i = 0; i < p->out_height; i++) {
            for (j = 0; j < p->out_width; j++) {
                const int32_t top = i * p->stride[0] - p->padding[0];
                const int32_t left = j * p->stride[1] - p->padding[1];
                term_t term = 0;
                for (row = o; row < p->layer.rows; row += p->layer.outputs) {
                    term += layer_term(&p->layer, row, window_sum(p, row, x, top, left));
                }
                layer_store(&p->layer, term, residual, y, index++);
            }
        }
    }
}
