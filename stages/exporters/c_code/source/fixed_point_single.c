/* x · multiplier · 2^(shift−31), rounded once, ties upwards: TFLite's TFLITE_SINGLE_ROUNDING. */
typedef struct {
    int32_t multiplier;
    int32_t shift;
} ratio_t;
typedef int64_t term_t;

static term_t rescale(int32_t x, ratio_t ratio)
{
    int64_t t = (int64_t)x * ratio.multiplier + ((int64_t)1 << (30 - ratio.shift));
    t >>= 31 - ratio.shift;
    return t > INT32_MAX ? INT32_MAX : t < INT32_MIN ? INT32_MIN : t;
}

/* A level from a sum of terms at 2^headroom steps a level, ties upwards. */
static int32_t finish(term_t t, int32_t headroom, int32_t zero_point, int32_t low, int32_t high)
{
    t = ((t + (((int64_t)1 << headroom) >> 1)) >> headroom) + zero_point;
    return t < low ? low : t > high ? high : (int32_t)t;
}
