/* x · multiplier · 2^(shift−31), rounded twice: gemmlowp's fixedpoint.h, TFLite's reference kernels. */
typedef struct {
    int32_t multiplier;
    int32_t shift;
} ratio_t;
typedef int64_t term_t;

static term_t rescale(int32_t x, ratio_t ratio)
{
    const int32_t left = ratio.shift > 0 ? ratio.shift : 0;
    const int32_t right = ratio.shift < 0 ? -ratio.shift : 0;
    int64_t t = (int64_t)x * ((int64_t)1 << left);
    t = t > INT32_MAX ? INT32_MAX : t < INT32_MIN ? INT32_MIN : t;
    t = (t * ratio.multiplier + ((int64_t)1 << 30)) >> 31;
    return (t + (((int64_t)1 << right) >> 1) - (right > 0 && t < 0)) >> right;
}

/* A level from a sum of terms at 2^headroom steps a level, half away from zero. */
static int32_t finish(term_t t, int32_t headroom, int32_t zero_point, int32_t low, int32_t high)
{
    t = (t + (((int64_t)1 << headroom) >> 1) - (headroom > 0 && t < 0)) >> headroom;
    t += zero_point;
    return t < low ? low : t > high ? high : (int32_t)t;
}
