/* TFLite's softmax: exponentials, and their sum's reciprocal by Newton, in fixed point (reference/softmax.h). */
typedef struct {
    int32_t outer, axis, inner;
    const int32_t *exponentials, *terms; /* of the difference to the largest level */
    int32_t low, high;
} softmax_tflm_t;

static int64_t product(int64_t a, int64_t b)
{
    return (a * b + ((int64_t)1 << 30)) >> 31;
}

static int64_t saturated(int64_t a)
{
    return a > INT32_MAX ? INT32_MAX : a < INT32_MIN ? INT32_MIN : a;
}

/* 1 / (1 + a) for a in [0, 1], 31 bits of fraction. */
static int64_t one_over_one_plus(int64_t a)
{
    const int64_t denominator = (a + INT32_MAX + 1) / 2;
    int64_t x = 1515870810 + product(denominator, -1010580540);
    int32_t step;
    for (step = 0; step < 3; step++) {
        x += saturated(product(x, ((int64_t)1 << 29) - product(denominator, x)) * 4);
    }
    return saturated(x * 2);
}

static void softmax_tflm(const softmax_tflm_t *p, const int8_t *x, int8_t *y)
{
    int32_t o, i, k;
    for (o = 0; o < p->outer; o++) {
        for (i = 0; i < p->inner; i++) {
            const int32_t first = o * p->axis * p->inner + i;
            int32_t largest = -128, bits = 0;
            int64_t total = 0, reciprocal;
            for (k = 0; k < p->axis; k++) {
                largest = x[first + k * p->inner] > largest ? x[first + k * p->inner] : largest;
            }
            for (k = 0; k < p->axis; k++) {
                total += p->terms[largest - x[first + k * p->inner]];
            }
            while (total >> bits != 0) {
                bits++;
            }
            reciprocal = one_over_one_plus(total * ((int64_t)1 << (32 - bits)) - ((int64_t)1 << 31));
            for (k = 0; k < p->axis; k++) {
                const int32_t at = first + k * p->inner, right = bits + 3; /* 12 − (32 − bits) + 23 */
                const int64_t a = product(reciprocal, p->exponentials[largest - x[at]]);
                const int64_t level = ((a + (((int64_t)1 << right) >> 1)) >> right) - 128;
                y[at] = (int8_t)(level < p->low ? p->low : level > p->high ? p->high : level);
            }
        }
    }
}
