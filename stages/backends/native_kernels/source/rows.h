// Softmax and layer normalization over the channels of each pixel, in 64 bits, as the reference's kernels say.
#pragma once
#include <algorithm>
#include <cmath>
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

// Levels from their zero point, clamped in 64 bits, to the first `count` of sixteen bytes.
inline void store_clamped(const Requantization &r, Long low, Long high, uint8_t *out, int count) {
    const Long least = broadcast_long(r.low), most = broadcast_long(r.high), zero_point = broadcast_long(r.zero_point);
    const auto level = [&](Long x) { return add_long(clamped(x, least, most), zero_point); };
    store_levels(out, narrow_halves(level(low), level(high)), count);
}

// `bias` holds the exponentials, `constant` the output's inverse scale; the residual says which entries take part.
inline void softmax(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Image *kept_ones = s.residual < 0 ? nullptr : &images[s.residual];
    const Long twice = broadcast_long(2 * s.constant);
    const int count = in.channels;
    static thread_local std::vector<int32_t> row;  // of exponentials
    row.resize(count + 16);
    for (int y = from; y < to; y++)
        for (int x = 0; x < in.width; x++) {
            const uint8_t *source = in.at(arena, y, x), *kept = nullptr;
            if (kept_ones) kept = kept_ones->at(arena, kept_ones->height == 1 ? 0 : y, kept_ones->width == 1 ? 0 : x);
            uint8_t *target = out.at(arena, y, x);
            const auto taking_part = [&](int c) {
                const Mask inside = first_lanes(count - c);
                if (!kept) return inside;
                return both(inside, differing(load_sixteen(kept + c), fill_sixteen(uint8_t(kept_ones->zero_point))));
            };
            Int greatest = broadcast(0);
            for (int c = 0; c < count; c += 16) greatest = most(greatest, keep(taking_part(c), widen(load_sixteen(source + c))));
            const Int top = broadcast(largest(greatest));
            const auto exponentials = [&](int c) {
                const Mask mask = taking_part(c);
                return keep(mask, gather(s.bias, keep(mask, subtract(top, widen(load_sixteen(source + c))))));
            };
            Long sums = broadcast_long(0);
            for (int c = 0; c < count; c += 16) {
                const Int a = exponentials(c);
                store(row.data() + c, a);
                sums = add_long(sums, add_long(low_half(a), high_half(a)));
            }
            const int64_t total = std::max<int64_t>(sum_long(sums), 1);
            const Divisor by(total << 15);
            const Long half = broadcast_long(total << 14);
            const auto share = [&](Long a) { return by.quotient(add_long(multiply_long(a, twice), half)); };
            for (int c = 0; c < count; c += 16) {
                const Int a = load(row.data() + c);
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

// `bias` holds gamma, `offset` beta and half of a step, `constant` epsilon.
inline void layer_norm(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Int size = broadcast(in.channels), zero_point = broadcast(in.zero_point);
    const int count = in.channels;
    for (int y = from; y < to; y++)
        for (int x = 0; x < in.width; x++) {
            const uint8_t *source = in.at(arena, y, x);
            uint8_t *target = out.at(arena, y, x);
            const auto centred = [&](int c) { return keep(first_lanes(count - c), subtract(widen(load_sixteen(source + c)), zero_point)); };
            Int sums = broadcast(0);
            for (int c = 0; c < count; c += 16) sums = add(sums, centred(c));
            const Int total = broadcast(sum(sums));
            const auto deviation = [&](int c) { return keep(first_lanes(count - c), subtract(multiply(size, centred(c)), total)); };
            Long squares = broadcast_long(0);
            for (int c = 0; c < count; c += 16) {
                const Int d = deviation(c);
                squares = add_long(squares, add_long(even_products(d, d), even_products(odd(d), odd(d))));
            }
            const int64_t spread = std::max<int64_t>((sum_long(squares) << 10) + s.constant, 1);
            const int power = (__builtin_clzll(uint64_t(spread)) - 2) / 2;  // the largest with spread·4^power < 2^62
            const int64_t root = square_root(spread << (2 * power));
            const Divisor by(2 * root);
            const Long half = broadcast_long(root);
            const auto normalized = [&](Long d, const int32_t *gamma, const int64_t *offset) {
                const Long unit = by.quotient(add_long(shift_left(d, power + 36), half));
                return shift_right(add_long(multiply_halves(unit, load_half(gamma)), load_longs(offset)), s.shift);
            };
            for (int c = 0; c < count; c += 16) {
                const Int d = deviation(c);
                store_clamped(s.requantize, normalized(low_half(d), s.bias + c, s.offset + c),
                              normalized(high_half(d), s.bias + c + 8, s.offset + c + 8), target + c, count - c);
            }
        }
}

}  // namespace
