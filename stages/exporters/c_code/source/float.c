/* x · ratio in float32. The product is volatile so that no compiler fuses it with a later sum. */
typedef float ratio_t;
typedef float term_t;

static term_t rescale(int32_t x, ratio_t ratio)
{
    volatile float product = (float)x * ratio;
    return product;
}

/* A level from a sum of terms, half to even. Bounds are whole, so that clamping first changes nothing. */
static int32_t finish(term_t t, int32_t headroom, int32_t zero_point, int32_t low, int32_t high)
{
    const float least = (float)(low - zero_point), most = (float)(high - zero_point);
    int32_t whole;
    float rest;
    (void)headroom;
    t = t < least ? least : t > most ? most : t;
    whole = (int32_t)t;
    rest = t - (float)whole;
    if (rest > 0.5f || (rest == 0.5f && whole % 2 != 0)) {
        whole++;
    }
    if (rest < -0.5f || (rest == -0.5f && whole % 2 != 0)) {
        whole--;
    }
    return whole + zero_point;
}
