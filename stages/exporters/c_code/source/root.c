/* ⌊√(x · 4^j)⌋ for 0 < x < 2^62, and j, the largest with x · 4^j < 2^62. */
static int64_t scaled_root(int64_t x, int32_t *power)
{
    int64_t root = 0, bit = (int64_t)1 << 60;
    *power = 0;
    while (x < (int64_t)1 << 60) {
        x *= 4;
        (*power)++;
    }
    while (bit != 0) {
        if (x >= root + bit) {
            x -= root + bit;
            root = root / 2 + bit;
        } else {
            root /= 2;
        }
        bit /= 4;
    }
    return root;
}

/* d · 2^power / root, halved and rounded: ⌊(d · 2^power + root) / (2 · root)⌋; power is above 62 only for d = 0. */
static int64_t divided(int64_t d, int32_t power, int64_t root)
{
    const int64_t a = (d == 0 ? 0 : d * ((int64_t)1 << power)) + root, b = 2 * root;
    return a / b - (a % b < 0);
}
