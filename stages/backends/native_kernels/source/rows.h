// Softmax and normalizations over the channels of each pixel, in 64 bits, as the reference's kernels say.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>
#include "requantize.h"

namespace {

// ⌊numerator / divisor⌋ for divisors above 0 and quotients of at most 2^31: float64's is off by one at the most.
struct Divisor {
    Long divisor, last;
    double inverse;

    explicit Divisor(int64_t by) : divisor(broadcast_long(by)), last(broadcast_long(by - 1)), inverse(1.0 / double(by)) {}

    Long quotient(Long numerator) const {
        const Long near = round_times(numerator, inverse);
        const Long left = subtract_long(numerator, multiply_long(near, divisor));
        return subtract_long(add_long(near, sign(left)), sign(subtract_long(last, left)));
    }
};

// Levels from their zero point, clamped in 64 bits, to the first `count` of sixteen.
inline void store_clamped(const Requantization &r, Long low, Long high, uint8_t *out, int count, int size = 1) {
    const Long least = broadcast_long(r.low), most = broadcast_long(r.high), zero_point = broadcast_long(r.zero_point);
    const auto level = [&](Long x) { return add_long(clamped(x, least, most), zero_point); };
    if (size == 1)
        store_levels(out, narrow_halves(level(low), level(high)), count);
    else
        store_levels(out, join_halves(level(low), level(high)), size, count);
}

// Reals in float32 to levels, as long as none lies within `doubt` of a tie, which leaves what it rounds to open.
struct Rounding {
    Float limit, least, most;
    Int zero_point;

    Rounding(const Requantization &r, float doubt)
        : limit(broadcast_float((0.5f - doubt) * (0.5f - doubt))), least(broadcast_float(float(r.low))), most(broadcast_float(float(r.high))),
          zero_point(broadcast(r.zero_point)) {}

    // Whether it stored the first `count` of sixteen.
    bool store(Float reals, uint8_t *out, int count) const {
        const Float whole = round_even(reals), rest = plus(reals, times(whole, broadcast_float(-1.0f)));
        if (any_above(times(rest, rest), limit)) return false;
        store_levels(out, narrow(add(rounded(clamped(whole, least, most)), zero_point)), count);
        return true;
    }
};

// `bias` holds the exponentials, `constant` the output's inverse scale; the residual says which entries take part.
inline void softmax(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *kept_ones = s.residual < 0 ? nullptr : &images[s.residual];
    const Long twice = broadcast_long(2 * s.constant);
    const int count = in.channels;
    static thread_local std::vector<int32_t> row;  // of exponentials
    row.resize(count + 16);
    const bool small = s.constant <= int64_t(1) << 24;  // shares of at most 2^10, in float32 off by less than 2^-12
    const Rounding rounding(s.requantize, 0x1p-12f);
    for (int y = from; y < to; y++)
        for (int x = 0; x < in.width; x++) {
            const uint8_t *source = in.at(arena, y, x), *kept = nullptr;
            if (kept_ones) kept = kept_ones->at(arena, s.residual_map ? s.residual_map[y] : kept_ones->height == 1 ? 0 : y, kept_ones->width == 1 ? 0 : x);
            uint8_t *target = out.at(arena, y, x);
            const auto taking_part = [&](int c) {
                const Mask inside = first_lanes(count - c);
                if (!kept) return inside;
                const Sixteen levels = kept_ones->channels == 1 ? fill_sixteen(*kept) : load_sixteen(kept + c);
                return both(inside, differing(levels, fill_sixteen(uint8_t(kept_ones->zero_point))));
            };
            Int greatest = broadcast(0);
            for (int c = 0; c < count; c += 16) greatest = most(greatest, keep(taking_part(c), widen(load_sixteen(source + c))));
            const Int top = broadcast(largest(greatest));
            const auto exponentials = [&](int c) {
                const Mask mask = taking_part(c);
                return keep(mask, gather(s.bias, keep(mask, subtract(top, widen(load_sixteen(source + c))))));
            };
            Long sums = broadcast_long(0);
            for (int c = 0; c < count;) {
                Int of_lanes = broadcast(0);  // up to 31 of at most 2^26
                for (const int end = std::min(count, c + 16 * 31); c < end; c += 16) {
                    const Int a = exponentials(c);
                    store(row.data() + c, a);
                    of_lanes = add(of_lanes, a);
                }
                sums = add_long(sums, add_long(low_half(of_lanes), high_half(of_lanes)));
            }
            const int64_t total = std::max<int64_t>(sum_long(sums), 1);
            const Divisor by(total << 15);
            const Long half = broadcast_long(total << 14);
            const auto share = [&](Long a) { return by.quotient(add_long(multiply_long(a, twice), half)); };
            const Float factor = broadcast_float(float(double(2 * s.constant) / double(total << 15)));
            for (int c = 0; c < count; c += 16) {
                const Int a = load(row.data() + c);
                if (small && rounding.store(times(floats(a), factor), target + c, count - c)) continue;
                store_clamped(s.requantize, share(low_half(a)), share(high_half(a)), target + c, count - c);
            }
        }
}

// ⌊√x⌋ for 0 < x < 2^62.
inline int64_t square_root(int64_t x) {
    int64_t root = int64_t(std::sqrt(double(x)));
    root -= root * root > x;
    root += (root + 1) * (root + 1) <= x;
    return root;
}

// ⌊√(D·4^j)⌋ and the largest j with D·4^j < 2^62, for 0 < D < 2^62.
struct Root {
    int power;
    int64_t root;
    Divisor by;

    explicit Root(int64_t spread)
        : power((__builtin_clzll(uint64_t(spread)) - 2) / 2), root(square_root(spread << (2 * power))), by(2 * root) {}

    // ⌊(d·2^(j + up) + root) / (2·root)⌋. j + up is above 61 only where D is epsilon alone, and so d is 0.
    Long units(Long d, int up) const { return by.quotient(add_long(shift_left(d, std::min(power + up, 63)), broadcast_long(root))); }
};

// 2^power, within float64's.
inline double power_of_two(int power) {
    const int64_t bits = int64_t(1023 + power) << 52;
    double value;
    std::memcpy(&value, &bits, 8);
    return value;
}

// Normalized deviations in float32, where the planner has found that good enough: `ratio` then holds gamma in steps of
// levels and, behind as many as channels and a vector, beta. What lies within ±2^9 levels is off by less than 2^-11.
struct Affine {
    const float *gamma, *beta;
    Float factor;
    Rounding rounding;

    Affine(const EngineStep &s, const Root &root, int up, int channels)
        : gamma(s.requantize.ratio), beta(gamma ? gamma + channels + 16 : nullptr),
          factor(broadcast_float(float(power_of_two(root.power + up - 1) / double(root.root)))), rounding(s.requantize, 0x1p-11f) {}

    bool store(Int d, int c, uint8_t *out, int count) const {
        if (!gamma) return false;
        const Float reals = times(times(floats(d), factor), load_floats(gamma + c));
        return rounding.store(plus(reals, load_floats(beta + c)), out, count);
    }
};

// Sixteen normalized deviations, from channel c on, to the first `count` levels: by gamma in `bias`, and `offset`.
inline void store_normalized(const EngineStep &s, const Root &root, const Affine &affine, Int d, int up, int c, uint8_t *out, int count, int size) {
    if (affine.store(d, c, out, count)) return;
    const auto normalized = [&](Long half, int from) {
        const Long scaled = multiply_halves(root.units(half, up), load_half(s.bias + from));
        return shift_right(add_long(scaled, load_longs(s.offset + from)), s.shift);
    };
    store_clamped(s.requantize, normalized(low_half(d), c), normalized(high_half(d), c + 8), out, count, size);
}

// d / 2^bits, away from zero.
inline Long cut(Long d, int bits) {
    const Long rest = broadcast_long((int64_t(1) << bits) - 1);
    return shift_right(add_long(subtract_if_negative(d, rest), rest), bits);
}

// `bias` holds gamma, `offset` beta and half of a step, `constant` epsilon, `count` the bits by which deviations are cut
// before they are squared.
inline void layer_norm(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Int size = broadcast(in.channels), zero_point = broadcast(in.zero_point);
    const int count = in.channels;
    for (int y = from; y < to; y++)
        for (int x = 0; x < in.width; x++) {
            const uint8_t *source = in.at(arena, y, x);
            uint8_t *target = out.at(arena, y, x);
            const auto centred = [&](int c) {
                return keep(first_lanes(count - c), subtract(load_levels(source + int64_t(c) * in.size, in.size), zero_point));
            };
            Int sums = broadcast(0);
            for (int c = 0; c < count; c += 16) sums = add(sums, centred(c));
            const Int total = broadcast(sum(sums));
            const auto deviation = [&](int c) { return keep(first_lanes(count - c), subtract(multiply(size, centred(c)), total)); };
            Long squares = broadcast_long(0);
            for (int c = 0; c < count; c += 16) {
                const Int d = deviation(c);
                if (s.count) {
                    const Long low = cut(low_half(d), s.count), high = cut(high_half(d), s.count);
                    squares = add_long(squares, add_long(multiply_halves(low, low), multiply_halves(high, high)));
                } else {
                    squares = add_long(squares, add_long(even_products(d, d), even_products(odd(d), odd(d))));
                }
            }
            const Root root(std::max<int64_t>((sum_long(squares) << 10) + s.constant, 1));
            const Affine affine(s, root, 36 - s.count, count);
            for (int c = 0; c < count; c += 16)
                store_normalized(s, root, affine, deviation(c), 36 - s.count, c, target + int64_t(c) * out.size, count - c, out.size);
        }
}

// `bias` holds gamma, `offset` half of a step, `constant` epsilon; what the root is taken of is at least `least`.
inline void rms_norm(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Int zero_point = broadcast(in.zero_point);
    const int count = in.channels;
    for (int y = from; y < to; y++)
        for (int x = 0; x < in.width; x++) {
            const uint8_t *source = in.at(arena, y, x);
            uint8_t *target = out.at(arena, y, x);
            const auto centred = [&](int c) { return keep(first_lanes(count - c), subtract(widen(load_sixteen(source + c)), zero_point)); };
            Long squares = broadcast_long(0);
            for (int c = 0; c < count; c += 16) {
                const Int d = centred(c);
                squares = add_long(squares, add_long(even_products(d, d), even_products(odd(d), odd(d))));
            }
            const Root root(std::max<int64_t>((sum_long(squares) << 20) + s.constant, s.least));
            const Affine affine(s, root, 41, count);
            for (int c = 0; c < count; c += 16) store_normalized(s, root, affine, centred(c), 41, c, target + c, count - c, 1);
        }
}

}  // namespace
