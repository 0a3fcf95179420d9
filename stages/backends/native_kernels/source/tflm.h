// Sums, averages and softmax as TensorFlow Lite Micro computes them, as the reference's profile says.
#pragma once
#include "elementwise.h"
#include "rows.h"

namespace {

// Sixteen int32 by one ratio with two roundings.
struct DoubleRounding {
    Int multiplier, left;
    Long nudge, carry, right;
    bool shifts_left;

    explicit DoubleRounding(const Ratio &r)
        : multiplier(broadcast(r.multiplier)), left(broadcast(r.left)), nudge(broadcast_long(r.nudge)), carry(broadcast_long(r.carry)),
          right(broadcast_long(r.right)), shifts_left(r.left != 0) {}

    Terms<true> of(Int x) const {
        if (shifts_left) x = saturated_shift(x, left);
        return {scaled(x, multiplier, nudge, carry, right), scaled(odd(x), odd(multiplier), nudge, carry, right)};
    }
};

// Both values in steps of 2^-20 of the larger scale's double, added, and rescaled once more: by `first`, `term`, `last`.
inline void combine_finely(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &out = images[s.target];
    const Operand a(images[s.source], s.map, out), b(images[s.residual], s.residual_map, out);
    const DoubleRounding first(s.first), second(s.term), last(s.last);
    const Int zero_a = broadcast(a.image.zero_point), zero_b = broadcast(b.image.zero_point), fine = broadcast(1 << 20);
    const Long low = broadcast_long(s.requantize.low), high = broadcast_long(s.requantize.high);
    const Int zero_point = broadcast(s.requantize.zero_point);
    for_runs(a, b, out, arena, from, to, [&](const uint8_t *left, const uint8_t *right, uint8_t *target, int64_t count) {
        for (int64_t i = 0; i < count; i += 16) {
            const Terms<true> one = first.of(multiply(subtract(a.levels(left, i), zero_a), fine));
            const Terms<true> two = second.of(multiply(subtract(b.levels(right, i), zero_b), fine));
            const Terms<true> both = s.operation == SUM ? Rescale<true, false>::added(one, two) : difference(one, two);
            const Terms<true> y = last.of(join_even_odd(both.even, both.odd));
            store_levels(target + i, narrow(add(join_even_odd(clamped(y.even, low, high), clamped(y.odd, low, high)), zero_point)), 16);
        }
    });
}

// Levels of a window as they are, divided by their number, half away from zero; the bounds' zero point is what lies
// between these levels and the program's.
inline void average_levels(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const Int offset = broadcast(s.requantize.zero_point);
    for (int y = from; y < to; y++)
        for (int x = 0; x < out.width; x++) {
            int count = 0;
            for_window(s, in, arena, y, x, [&](const uint8_t *) { count++; });
            const Divisor by(std::max(count, 1));
            const Long half = broadcast_long(count / 2), even = broadcast_long(count % 2 == 0);
            const auto quotient = [&](Long total) { return by.quotient(add_long(subtract_if_negative(total, even), half)); };
            for (int c = 0; c < out.channels; c += 16) {
                Int sum = broadcast(0);
                for_window(s, in, arena, y, x, [&](const uint8_t *pixel) { sum = add(sum, subtract(widen(load_sixteen(pixel + c)), offset)); });
                store_clamped(s.requantize, quotient(low_half(sum)), quotient(high_half(sum)), out.at(arena, y, x) + c, out.channels - c);
            }
        }
}

// gemmlowp's: round(a·b / 2^31), ties up; and a·2^bits, saturating.
inline int64_t high_product(int64_t a, int64_t b) { return std::min<int64_t>((a * b + (int64_t(1) << 30)) >> 31, INT32_MAX); }
inline int64_t saturated_left(int64_t a, int bits) {
    return std::min<int64_t>(std::max<int64_t>(int64_t(uint64_t(a) << bits), INT32_MIN), INT32_MAX);
}

// 1 / (1 + a) for 0 ≤ a ≤ 1 in steps of 2^-31, by three steps of Newton.
inline int64_t one_over_one_plus(int64_t a) {
    const int64_t denominator = (a + INT32_MAX + 1) / 2;
    int64_t x = 1515870810 + high_product(denominator, -1010580540);  // 48/17 − 32/17·d, with two integer bits
    for (int i = 0; i < 3; i++) x += saturated_left(high_product(x, (1 << 29) - high_product(denominator, x)), 2);
    return saturated_left(x, 1);
}

// `bias` holds the exponentials of differences, and behind those of 256 their terms of the sum.
inline void softmax_by_reciprocal(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const int count = in.channels;
    for (int y = from; y < to; y++)
        for (int x = 0; x < in.width; x++) {
            const uint8_t *source = in.at(arena, y, x);
            uint8_t *target = out.at(arena, y, x);
            Int greatest = broadcast(0);
            for (int c = 0; c < count; c += 16) greatest = most(greatest, keep(first_lanes(count - c), widen(load_sixteen(source + c))));
            const Int top = broadcast(largest(greatest));
            const auto below = [&](int c) { return keep(first_lanes(count - c), subtract(top, widen(load_sixteen(source + c)))); };
            Long sums = broadcast_long(0);
            for (int c = 0; c < count; c += 16) {
                const Int terms = keep(first_lanes(count - c), gather(s.bias + 256, below(c)));
                sums = add_long(sums, add_long(low_half(terms), high_half(terms)));
            }
            const int64_t total = sum_long(sums);  // at least 2^19
            const int bits = 64 - __builtin_clzll(uint64_t(total)), shift = bits + 3;
            const int64_t reciprocal = one_over_one_plus(int64_t(uint64_t(total) << (32 - bits)) - (int64_t(1) << 31));
            const Long factor = broadcast_long(reciprocal), half = broadcast_long(int64_t(1) << 30), rest = broadcast_long((int64_t(1) << shift) >> 1);
            const auto share = [&](Long e) {
                return shift_right(add_long(shift_right(add_long(multiply_halves(e, factor), half), 31), rest), shift);
            };
            for (int c = 0; c < count; c += 16) {
                const Int e = gather(s.bias, below(c));
                store_clamped(s.requantize, share(low_half(e)), share(high_half(e)), target + c, count - c);
            }
        }
}

}  // namespace
