// Sixteen accumulators to sixteen levels.
#pragma once
#include <algorithm>
#include "isa.h"
#include "step.h"

namespace {

// Per-channel constants of 16 channels in fixed point, split into even and odd ones.
struct Lanes {
    Long even, odd;
    static Lanes at(const int64_t *p) { return {load_even(p), load_odd(p)}; }
};

inline Long to_int32(Long x) { return clamped(x, broadcast_long(INT32_MIN), broadcast_long(INT32_MAX)); }

inline Int saturated_shift(Int x, Int left) {
    return join_halves(to_int32(shift_left(low_half(x), low_half(left))), to_int32(shift_left(high_half(x), high_half(left))));
}

// (x · multiplier + nudge − carry·[x < 0]) >> right, of even lanes. carry counts only where x·multiplier < 0.
inline Long scaled(Int x, Int multiplier, Long nudge, Long carry, Long right) {
    return shift_right(add_long(subtract_if_negative(even_products(x, multiplier), carry), nudge), right);
}

// What a ratio makes of sixteen accumulators: float32, or int64 in even and odd lanes.
template <bool FIXED>
struct Terms {
    Float all;
};
template <>
struct Terms<true> {
    Long even, odd;
};

// Sixteen levels of `size` bytes each, and back.
inline Int load_levels(const uint8_t *p, int size) { return size == 4 ? load(p) : widen(load_sixteen(p)); }

// Ratios of 16 channels, and optionally of what is added to them.
template <bool FIXED, bool RESIDUAL>
struct Rescale {
    const Requantization &r;
    Float ratio, residual_ratio, low_f, high_f;
    Int multiplier, left, zero_point, residual_zero;
    Lanes nudge, carry, right;
    Int residual_multiplier, residual_left;
    Long residual_nudge, residual_carry, residual_right;
    Long half, low, high;
    bool residual_shifts_left = false;

    Rescale(const Requantization &requantize, int channel, const Ratio &term) : r(requantize) {
        zero_point = broadcast(r.zero_point);
        if (RESIDUAL) residual_zero = broadcast(term.zero_point);
        if (!FIXED) {
            ratio = load_floats(r.ratio + channel);
            low_f = broadcast_float(float(r.low)), high_f = broadcast_float(float(r.high));
            if (RESIDUAL) residual_ratio = broadcast_float(term.ratio);
            return;
        }
        multiplier = load(r.multiplier + channel), left = load(r.left + channel);
        nudge = Lanes::at(r.nudge + channel), carry = Lanes::at(r.carry + channel), right = Lanes::at(r.right + channel);
        half = broadcast_long((int64_t(1) << r.headroom) >> 1);
        low = broadcast_long(r.low), high = broadcast_long(r.high);
        if (RESIDUAL) {
            residual_multiplier = broadcast(term.multiplier), residual_nudge = broadcast_long(term.nudge);
            residual_carry = broadcast_long(term.carry), residual_right = broadcast_long(term.right);
            residual_left = broadcast(term.left), residual_shifts_left = term.left != 0;
        }
    }

    Long saturated(Long x) const { return r.saturates ? to_int32(x) : x; }

    Long bounded(Long terms) const {
        if (r.headroom) {
            if (r.mode == 1) terms = add_long(terms, sign(terms));
            terms = shift_right(add_long(terms, half), r.headroom);
        }
        return clamped(terms, low, high);
    }

    // Of accumulators, by the channels' ratios.
    Terms<FIXED> terms(Int x) const {
        if constexpr (FIXED) {
            if (r.shifts_left) x = saturated_shift(x, left);
            return {saturated(scaled(x, multiplier, nudge.even, carry.even, right.even)),
                    saturated(scaled(odd(x), odd(multiplier), nudge.odd, carry.odd, right.odd))};
        } else {
            return {times(floats(x), ratio)};
        }
    }

    // Of the residual's levels.
    Terms<FIXED> residual_terms(Int q) const {
        Int added = subtract(q, residual_zero);
        if constexpr (FIXED) {
            if (residual_shifts_left) added = saturated_shift(added, residual_left);
            return {saturated(scaled(added, residual_multiplier, residual_nudge, residual_carry, residual_right)),
                    saturated(scaled(odd(added), residual_multiplier, residual_nudge, residual_carry, residual_right))};
        } else {
            return {times(floats(added), residual_ratio)};
        }
    }

    Int finished(Terms<FIXED> terms) const {
        if constexpr (FIXED)
            return add(join_even_odd(bounded(terms.even), bounded(terms.odd)), zero_point);
        else
            return add(rounded(clamped(terms.all, low_f, high_f)), zero_point);
    }

    // 16 int32 to 16 int32 levels.
    Int levels(Int x) const { return finished(terms(x)); }

    // The same with 16 levels that are added.
    Int levels(Int x, Int residual) const { return finished(added(terms(x), residual_terms(residual))); }

    static Terms<FIXED> added(Terms<FIXED> a, Terms<FIXED> b) {
        if constexpr (FIXED)
            return {add_long(a.even, b.even), add_long(a.odd, b.odd)};
        else
            return {plus(a.all, b.all)};
    }
};

// The first `count` of sixteen levels: partial stores are slow, and mostly not needed.
inline void store_levels(uint8_t *out, Sixteen levels, int count) {
    if (count >= 16)
        store_sixteen(out, levels);
    else
        store_sixteen_first(out, levels, count);
}

// The first `count` of sixteen levels of `size` bytes each.
inline void store_levels(uint8_t *out, Int levels, int size, int count = 16) {
    if (size == 1)
        store_levels(out, narrow(levels), count);
    else if (count >= 16)
        store(out, levels);
    else
        store_first(out, levels, 4 * int64_t(count));
}

// Bytes of 64 channels from four rows to dwords (row 0, …, row 3). Vector q holds in its 128-bit lane L the
// channels 16·L + 4·q .. + 3.
inline void interleave(Int a, Int b, Int c, Int d, Int *out) {
    const Int low[2] = {zip8_low(a, b), zip8_low(c, d)}, high[2] = {zip8_high(a, b), zip8_high(c, d)};
    out[0] = zip16_low(low[0], low[1]), out[1] = zip16_high(low[0], low[1]);
    out[2] = zip16_low(high[0], high[1]), out[3] = zip16_high(high[0], high[1]);
}

// The first `count` of 64 levels, and up to 15 more where a pixel has room for whole sixteens.
inline void store_sixteens(uint8_t *out, Int levels, int64_t count) {
    if (count >= 64) return store(out, levels);
    const Sixteen parts[4] = {quarter<0>(levels), quarter<1>(levels), quarter<2>(levels), quarter<3>(levels)};
    for (int k = 0; 16 * k < count; k++) store_sixteen(out + 16 * k, parts[k]);
}

// A tile's accumulators (pixels, vectors, 16) and where its levels go.
struct Tile {
    int32_t *acc;
    int pixels, vectors;
    int channel, channels;  // of the first vector; of the whole step
    int room;               // levels from a pixel's first vector on that nothing else has written, or something will
    uint8_t *out;
    int64_t out_stride;
    const uint8_t *residual;
    int64_t residual_stride;
    int size = 1, residual_size = 1;  // bytes of a level

    int left(int vector) const { return channels - channel - 16 * vector; }
    bool whole(int vector) const { return left(vector) >= 16 || 16 * (vector + 1) <= room; }
};

template <bool FIXED, bool RESIDUAL>
void finish_each(const Requantization &r, const Ratio &term, const Tile &t) {
    for (int v = 0; v < t.vectors && t.left(v) > 0; v++) {
        const int count = t.whole(v) ? 16 : t.left(v);
        const Rescale<FIXED, RESIDUAL> rescale(r, t.channel + 16 * v, term);
        for (int p = 0; p < t.pixels; p++) {
            const Int sum = load(t.acc + (p * t.vectors + v) * 16);
            Int levels;
            if constexpr (RESIDUAL)
                levels = rescale.levels(sum, load_levels(t.residual + p * t.residual_stride + 16 * v * t.residual_size, t.residual_size));
            else
                levels = rescale.levels(sum);
            store_levels(t.out + p * t.out_stride + 16 * v * t.size, levels, t.size, count);
        }
    }
}

inline Packing packing(const Requantization &r) { return Packing(r.zero_point, r.low + r.zero_point, r.high + r.zero_point); }

// The same for float ratios whose products stay far inside int32 (`narrow`) and whole vectors, from registers: four
// vectors share the last steps, in which packing saturates as `clamp` would.
template <int VECTORS, int PIXELS, bool RESIDUAL>
inline __attribute__((always_inline)) void finish_packed(const Int (&sum)[PIXELS][VECTORS], const Requantization &r, const Ratio &term,
                                                         const Tile &t) {
    constexpr int EACH = 4 / VECTORS;  // pixels that leave together
    const Packing bounds = packing(r);
    const float *ratio = r.ratio + t.channel;
#pragma GCC unroll 16
    for (int p = 0; p < PIXELS; p += EACH) {
        Int levels[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            const int pixel = std::min(p + j / VECTORS, PIXELS - 1), v = j % VECTORS;
            Float terms = times(floats(sum[pixel][v]), load_floats(ratio + 16 * v));
            if (RESIDUAL) {
                const Int added = subtract(widen(load_sixteen(t.residual + pixel * t.residual_stride + 16 * v)), broadcast(term.zero_point));
                terms = plus(terms, times(floats(added), broadcast_float(term.ratio)));
            }
            levels[j] = rounded(terms);
        }
        const Int packed = pack_levels(bounds, levels[0], levels[1], levels[2], levels[3]);
        uint8_t *out = t.out + p * t.out_stride;
        if (VECTORS == 4 || (t.out_stride == 16 * VECTORS && p + EACH <= PIXELS)) {
            store(out, packed);
        } else if (VECTORS == 2) {
            store_half<0>(out, packed);
            if (p + 1 < PIXELS) store_half<1>(out + t.out_stride, packed);
        } else {
            const Sixteen each[4] = {quarter<0>(packed), quarter<1>(packed), quarter<2>(packed), quarter<3>(packed)};
            for (int j = 0; j < 4 && p + j < PIXELS; j++) store_sixteen(out + j * t.out_stride, each[j]);
        }
    }
}

// Accumulators as they are.
inline void keep_raw(const Tile &t) {
    for (int v = 0; v < t.vectors && t.left(v) > 0; v++)
        for (int p = 0; p < t.pixels; p++) store(t.out + p * t.out_stride + 64 * v, load(t.acc + (p * t.vectors + v) * 16));
}

inline void finish(const Requantization &r, const Ratio &term, const Tile &t) {
    if (r.mode == RAW)
        keep_raw(t);
    else if (r.mode)
        (t.residual ? finish_each<true, true> : finish_each<true, false>)(r, term, t);
    else
        (t.residual ? finish_each<false, true> : finish_each<false, false>)(r, term, t);
}

}  // namespace
