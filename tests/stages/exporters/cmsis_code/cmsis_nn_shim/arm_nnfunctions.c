/* The arithmetic of TensorFlow Lite's specification for int8, one output after the other, without a library.
 * A context's scratch memory is overwritten whole, so that a live value in it would show. */
#include "arm_nnfunctions.h"

#include <stdlib.h>
#include <string.h>

/* x * multiplier * 2^(shift - 31): halves up in the product, then halves away from zero in the shift */
static int32_t rescaled(int64_t x, int32_t multiplier, int32_t shift)
{
    int64_t high = ((shift > 0 ? x * ((int64_t)1 << shift) : x) * multiplier + ((int64_t)1 << 30)) >> 31;
    if (shift < 0) {
        int64_t half = (int64_t)1 << (-shift - 1);
        high = high >= 0 ? (high + half) >> -shift : -((-high + half) >> -shift);
    }
    return (int32_t)high;
}

static int8_t clamped(int32_t level, int32_t low, int32_t high)
{
    return (int8_t)(level < low ? low : level > high ? high : level);
}

static void spoil(const cmsis_nn_context *ctx)
{
    if (ctx->size > 0) {
        memset(ctx->buf, 0xA5, (size_t)ctx->size);
    }
}

typedef struct {
    const cmsis_nn_dims *x, *kernel, *y;
    cmsis_nn_tile stride, padding, dilation;
} windows;

/* where a tap of a window lies in the image, -1 outside */
static int32_t pixel(const windows *w, int32_t row, int32_t column, int32_t ky, int32_t kx)
{
    int32_t iy = row * w->stride.h - w->padding.h + ky * w->dilation.h;
    int32_t ix = column * w->stride.w - w->padding.w + kx * w->dilation.w;
    return iy < 0 || ix < 0 || iy >= w->x->h || ix >= w->x->w ? -1 : iy * w->x->w + ix;
}

arm_cmsis_nn_status arm_convolve_s8(const cmsis_nn_context *ctx, const cmsis_nn_conv_params *p, CONVOLUTION_TAIL,
                                    const cmsis_nn_dims *upscale_dims, const cmsis_nn_dims *output_dims,
                                    int8_t *output_data)
{
    windows w = {input_dims, filter_dims, output_dims, p->stride, p->padding, p->dilation};
    int32_t groups = input_dims->c / filter_dims->c, outputs = output_dims->c;
    int32_t i, o, ky, kx, c, taps = filter_dims->h * filter_dims->w * filter_dims->c;
    if (upscale_dims != 0 || bias_dims->c != outputs || filter_dims->n != outputs || input_dims->n != 1) {
        abort();
    }
    spoil(ctx);
    for (i = 0; i < output_dims->h * output_dims->w; i++) {
        for (o = 0; o < outputs; o++) {
            int32_t sum = bias_data[o], first = o / (outputs / groups) * filter_dims->c;
            for (ky = 0; ky < filter_dims->h; ky++) {
                for (kx = 0; kx < filter_dims->w; kx++) {
                    int32_t at = pixel(&w, i / output_dims->w, i % output_dims->w, ky, kx);
                    for (c = 0; at >= 0 && c < filter_dims->c; c++) {
                        int32_t q = input_data[at * input_dims->c + first + c] + p->input_offset;
                        sum += q * filter_data[o * taps + (ky * filter_dims->w + kx) * filter_dims->c + c];
                    }
                }
            }
            sum = rescaled(sum, quant_params->multiplier[o], quant_params->shift[o]) + p->output_offset;
            output_data[i * outputs + o] = clamped(sum, p->activation.min, p->activation.max);
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_convolve_wrapper_s8(const cmsis_nn_context *ctx, const cmsis_nn_conv_params *conv_params,
                                            CONVOLUTION_TAIL, const cmsis_nn_dims *output_dims,
                                            int8_t *output_data)
{
    return arm_convolve_s8(ctx, conv_params, quant_params, input_dims, input_data, filter_dims, filter_data,
                           bias_dims, bias_data, 0, output_dims, output_data);
}

arm_cmsis_nn_status arm_depthwise_conv_wrapper_s8(const cmsis_nn_context *ctx, const cmsis_nn_dw_conv_params *p,
                                                  CONVOLUTION_TAIL, const cmsis_nn_dims *output_dims,
                                                  int8_t *output_data)
{
    windows w = {input_dims, filter_dims, output_dims, p->stride, p->padding, p->dilation};
    int32_t i, o, ky, kx, outputs = output_dims->c;
    if (bias_dims->c != outputs || filter_dims->c != outputs || input_dims->c * p->ch_mult != outputs) {
        abort();
    }
    spoil(ctx);
    for (i = 0; i < output_dims->h * output_dims->w; i++) {
        for (o = 0; o < outputs; o++) {
            int32_t sum = bias_data[o];
            for (ky = 0; ky < filter_dims->h; ky++) {
                for (kx = 0; kx < filter_dims->w; kx++) {
                    int32_t at = pixel(&w, i / output_dims->w, i % output_dims->w, ky, kx);
                    if (at >= 0) {
                        int32_t q = input_data[at * input_dims->c + o / p->ch_mult] + p->input_offset;
                        sum += q * filter_data[(ky * filter_dims->w + kx) * outputs + o];
                    }
                }
            }
            sum = rescaled(sum, quant_params->multiplier[o], quant_params->shift[o]) + p->output_offset;
            output_data[i * outputs + o] = clamped(sum, p->activation.min, p->activation.max);
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_fully_connected_wrapper_s8(
    const cmsis_nn_context *ctx, const cmsis_nn_fc_params *p, const cmsis_nn_quant_params *quant_params,
    const cmsis_nn_dims *input_dims, const int8_t *input_data, const cmsis_nn_dims *filter_dims,
    const int8_t *filter_data, const cmsis_nn_dims *bias_dims, const int32_t *bias_data,
    const cmsis_nn_dims *output_dims, int8_t *output_data)
{
    int32_t row, o, i, inputs = filter_dims->n, outputs = output_dims->c;
    if (bias_dims->c != outputs || input_dims->c != inputs || p->filter_offset != 0) {
        abort();
    }
    for (row = 0; row < input_dims->n; row++) {
        for (o = 0; o < outputs; o++) {
            int32_t sum = 0, channel = quant_params->is_per_channel ? o : 0;
            for (i = 0; i < inputs; i++) {
#ifdef ARM_MATH_MVEI
                sum += input_data[row * inputs + i] * filter_data[o * inputs + i];
#else
                sum += (input_data[row * inputs + i] + p->input_offset) * filter_data[o * inputs + i];
#endif
            }
#ifdef ARM_MATH_MVEI
            if (bias_data != 0 || ctx->size != 4 * outputs) {
                abort();
            }
            sum += ((const int32_t *)ctx->buf)[o];
#else
            (void)ctx;
            sum += bias_data[o];
#endif
            sum = rescaled(sum, quant_params->multiplier[channel], quant_params->shift[channel]);
            output_data[row * outputs + o] =
                clamped(sum + p->output_offset, p->activation.min, p->activation.max);
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

static void pool(int average, const cmsis_nn_pool_params *p, const cmsis_nn_dims *input_dims, const int8_t *x,
                 const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims, int8_t *y)
{
    windows w = {input_dims, filter_dims, output_dims, p->stride, p->padding, {1, 1}};
    int32_t i, c, ky, kx;
    for (i = 0; i < output_dims->h * output_dims->w; i++) {
        for (c = 0; c < input_dims->c; c++) {
            int32_t sum = 0, count = 0, largest = -128;
            for (ky = 0; ky < filter_dims->h; ky++) {
                for (kx = 0; kx < filter_dims->w; kx++) {
                    int32_t at = pixel(&w, i / output_dims->w, i % output_dims->w, ky, kx);
                    if (at >= 0) {
                        int32_t q = x[at * input_dims->c + c];
                        sum += q;
                        count++;
                        largest = q > largest ? q : largest;
                    }
                }
            }
            sum = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
            y[i * input_dims->c + c] = clamped(average ? sum : largest, p->activation.min, p->activation.max);
        }
    }
}

arm_cmsis_nn_status arm_avgpool_s8(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *pool_params,
                                   const cmsis_nn_dims *input_dims, const int8_t *input_data,
                                   const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims,
                                   int8_t *output_data)
{
    spoil(ctx);
    pool(1, pool_params, input_dims, input_data, filter_dims, output_dims, output_data);
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_max_pool_s8(const cmsis_nn_context *ctx, const cmsis_nn_pool_params *pool_params,
                                    const cmsis_nn_dims *input_dims, const int8_t *input_data,
                                    const cmsis_nn_dims *filter_dims, const cmsis_nn_dims *output_dims,
                                    int8_t *output_data)
{
    spoil(ctx);
    pool(0, pool_params, input_dims, input_data, filter_dims, output_dims, output_data);
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_elementwise_add_s8(
    const int8_t *a, const int8_t *b, const int32_t offset_a, const int32_t mult_a, const int32_t shift_a,
    const int32_t offset_b, const int32_t mult_b, const int32_t shift_b, const int32_t left_shift, int8_t *y,
    const int32_t offset, const int32_t mult, const int32_t shift, const int32_t low, const int32_t high,
    const int32_t size)
{
    int32_t i;
    for (i = 0; i < size; i++) {
        int32_t sum = rescaled((int64_t)(a[i] + offset_a) * (1 << left_shift), mult_a, shift_a);
        sum += rescaled((int64_t)(b[i] + offset_b) * (1 << left_shift), mult_b, shift_b);
        y[i] = clamped(rescaled(sum, mult, shift) + offset, low, high);
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_elementwise_mul_s8(const int8_t *a, const int8_t *b, const int32_t offset_a,
                                           const int32_t offset_b, int8_t *y, const int32_t offset,
                                           const int32_t mult, const int32_t shift, const int32_t low,
                                           const int32_t high, const int32_t size)
{
    int32_t i;
    for (i = 0; i < size; i++) {
        int32_t product = (a[i] + offset_a) * (b[i] + offset_b);
        y[i] = clamped(rescaled(product, mult, shift) + offset, low, high);
    }
    return ARM_CMSIS_NN_SUCCESS;
}

static arm_cmsis_nn_status extreme(int sign, const int8_t *a, const cmsis_nn_dims *a_dims, const int8_t *b,
                                   const cmsis_nn_dims *b_dims, int8_t *y, const cmsis_nn_dims *y_dims)
{
    int32_t i;
    if (a_dims->c != y_dims->c || b_dims->c != y_dims->c) {
        abort();
    }
    for (i = 0; i < y_dims->n * y_dims->h * y_dims->w * y_dims->c; i++) {
        y[i] = sign * a[i] > sign * b[i] ? a[i] : b[i];
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_maximum_s8(const cmsis_nn_context *ctx, const int8_t *a, const cmsis_nn_dims *a_dims,
                                   const int8_t *b, const cmsis_nn_dims *b_dims, int8_t *y,
                                   const cmsis_nn_dims *y_dims)
{
    spoil(ctx);
    return extreme(1, a, a_dims, b, b_dims, y, y_dims);
}

arm_cmsis_nn_status arm_minimum_s8(const cmsis_nn_context *ctx, const int8_t *a, const cmsis_nn_dims *a_dims,
                                   const int8_t *b, const cmsis_nn_dims *b_dims, int8_t *y,
                                   const cmsis_nn_dims *y_dims)
{
    spoil(ctx);
    return extreme(-1, a, a_dims, b, b_dims, y, y_dims);
}

arm_cmsis_nn_status arm_pad_s8(const int8_t *input, int8_t *output, const int8_t pad_value,
                               const cmsis_nn_dims *x, const cmsis_nn_dims *before, const cmsis_nn_dims *after)
{
    int32_t h = before->h + x->h + after->h, w = before->w + x->w + after->w, c = before->c + x->c + after->c;
    int32_t n, i, j, k;
    memset(output, pad_value, (size_t)((before->n + x->n + after->n) * h * w * c));
    for (n = 0; n < x->n; n++) {
        for (i = 0; i < x->h; i++) {
            for (j = 0; j < x->w; j++) {
                for (k = 0; k < x->c; k++) {
                    int32_t at = ((n + before->n) * h + i + before->h) * w + j + before->w;
                    output[at * c + k + before->c] = input[((n * x->h + i) * x->w + j) * x->c + k];
                }
            }
        }
    }
    return ARM_CMSIS_NN_SUCCESS;
}

arm_cmsis_nn_status arm_transpose_s8(const int8_t *input, int8_t *const output, const cmsis_nn_dims *const x,
                                     const cmsis_nn_dims *const y, const cmsis_nn_transpose_params *const p)
{
    int32_t from[4], to[4], index[4], i, axis;
    from[0] = x->n, from[1] = x->h, from[2] = x->w, from[3] = x->c;
    to[0] = y->n, to[1] = y->h, to[2] = y->w, to[3] = y->c;
    for (i = 0; i < to[0] * to[1] * to[2] * to[3]; i++) {
        int32_t rest = i, at = 0;
        for (axis = 3; axis >= 0; axis--) {
            if (to[axis] != from[p->permutations[axis]] || p->num_dims != 4) {
                abort();
            }
            index[p->permutations[axis]] = rest % to[axis];
            rest /= to[axis];
        }
        for (axis = 0; axis < 4; axis++) {
            at = at * from[axis] + index[axis];
        }
        output[i] = input[at];
    }
    return ARM_CMSIS_NN_SUCCESS;
}

void arm_concatenation_s8_z(const int8_t *input, const uint16_t input_x, const uint16_t input_y,
                            const uint16_t input_z, const uint16_t input_w, int8_t *output,
                            const uint16_t output_z, const uint32_t offset_z)
{
    size_t plane = (size_t)input_x * input_y, i;
    for (i = 0; i < input_w; i++) {
        memcpy(output + (i * output_z + offset_z) * plane, input + i * input_z * plane, input_z * plane);
    }
}

void arm_reshape_s8(const int8_t *input, int8_t *output, const uint32_t total_size)
{
    memcpy(output, input, total_size);
}

static int64_t times(int64_t a, int64_t b)
{
    return (a * b + ((int64_t)1 << 30)) >> 31;
}

static int64_t halved(int64_t a, int bits)
{
    int64_t half = ((int64_t)1 << bits) >> 1;
    return a >= 0 ? (a + half) >> bits : -((-a + half) >> bits);
}

/* exp(a * 2^-26) in 31 bits of fraction, a <= 0: its fraction of a quarter by a series, the rest by factors */
static int64_t exponential(int64_t a)
{
    static const int32_t factors[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    int64_t quarter = 1 << 24, rest = (a & (quarter - 1)) - quarter, x = rest * 32 + (1 << 28);
    int64_t x2 = times(x, x), x3 = times(x2, x), x4 = times(x2, x2), y;
    int bit;
    y = 1895147668 + times(1895147668, x + halved(times(halved(x4, 2) + x3, 715827883) + x2, 1));
    for (bit = 0; bit < 7; bit++) {
        if ((rest - a) & (quarter << bit)) {
            y = times(y, factors[bit]);
        }
    }
    return a == 0 ? INT32_MAX : y;
}

void arm_softmax_s8(const int8_t *input, const int32_t num_rows, const int32_t row_size, const int32_t mult,
                    const int32_t shift, const int32_t diff_min, int8_t *output)
{
    int32_t row, i, step;
    for (row = 0; row < num_rows; row++, input += row_size, output += row_size) {
        int32_t largest = -128, bits = 0;
        int64_t total = 0, half, x;
        for (i = 0; i < row_size; i++) {
            largest = input[i] > largest ? input[i] : largest;
        }
        for (i = 0; i < row_size; i++) {
            if (input[i] - largest >= diff_min) {
                total += halved(exponential(rescaled(input[i] - largest, mult, shift)), 12);
            }
        }
        while (total >> bits != 0) {
            bits++;
        }
        half = (total * ((int64_t)1 << (32 - bits)) - ((int64_t)1 << 31) + INT32_MAX + 1) / 2;
        x = 1515870810 + times(half, -1010580540); /* Newton, for the reciprocal */
        for (step = 0; step < 3; step++) {
            x += times(x, (1 << 29) - times(half, x)) * 4;
        }
        x = x * 2 > INT32_MAX ? INT32_MAX : x * 2;
        for (i = 0; i < row_size; i++) {
            int64_t level = -128;
            if (input[i] - largest >= diff_min) {
                level += halved(times(x, exponential(rescaled(input[i] - largest, mult, shift))), bits + 3);
            }
            output[i] = clamped((int32_t)level, -128, 127);
        }
    }
}
