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
    Float limit;
    Packing bounds;

    Rounding(const Requantization &r, float doubt) : limit(broadcast_float((0.5f - doubt) * (0.5f - doubt))), bounds(packing(r)) {}

    // Integers for reals that int32 holds, of which those that lie beyond all levels may be anything as far out; where one is
    // in doubt, what `exactly` says they are.
    template <class Exactly>
    Int whole(Float reals, const Exactly &exactly) const {
        const Int near = rounded(reals);
        const Float rest = plus(reals, times(floats(near), broadcast_float(-1.0f)));
        return any_above(times(rest, rest), limit) ? exactly() : near;
    }
};

// Bytes of 255, and of 0 behind the first `count` of 64.
struct OnesFirst {
    alignas(64) uint8_t bytes[128];
    OnesFirst() { std::memset(bytes, 255, 64), std::memset(bytes + 64, 0, 64); }
};
const OnesFirst ONES_FIRST;
inline Int ones_first(int64_t count) { return load(ONES_FIRST.bytes + 64 - std::min<int64_t>(count, 64)); }

// Bytes of 0 or 255 as int32 of 0 or −1, in the order of `WideTable`.
inline void widen_mask(Int bytes, Int *lanes) {
    const Int low = zip8_low(bytes, bytes), high = zip8_high(bytes, bytes);
    lanes[0] = zip16_low(low, low), lanes[1] = zip16_high(low, low), lanes[2] = zip16_low(high, high), lanes[3] = zip16_high(high, high);
}

// Which entries of a row take part: all, or those that the residual keeps.
struct TakingPart {
    const Image *kept;
    int count;

    const uint8_t *row(const EngineStep &s, uint8_t *arena, int y, int x) const {
        return kept ? kept->at(arena, s.residual_map ? s.residual_map[y] : kept->height == 1 ? 0 : y, kept->width == 1 ? 0 : x) : nullptr;
    }
    bool all(int c) const { return !kept && c + 64 <= count; }
    // Bytes of 255 for those from c on, of 0 for others.
    Int from(const uint8_t *row, int c) const {
        const Int inside = ones_first(count - c);
        if (!kept) return inside;
        const Int levels = kept->channels == 1 ? fill(*row) : load_some(row + c, count - c);
        return both_bits(inside, unequal_bytes(levels, fill(uint8_t(kept->zero_point))));
    }
};

// `bias` holds the exponentials, `constant` the output's inverse scale; the residual says which entries take part. A few
// rows at a time, since each waits for its maximum and its sum.
inline void softmax(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    constexpr int ROWS = 8;
    const Image &in = images[s.source], &out = images[s.target];
    const int count = in.channels, room = (count + 63) / 64 * 64;
    const TakingPart part = {s.residual < 0 ? nullptr : &images[s.residual], count};
    const Long twice = broadcast_long(2 * s.constant), least = broadcast_long(s.requantize.low), most = broadcast_long(s.requantize.high);
    static thread_local std::vector<int32_t> exponentials;
    exponentials.resize(int64_t(ROWS) * room);
    const WideTable table(s.bias);
    const Rounding rounding(s.requantize, 0x1p-12f);  // float32 is off by 3·2^-24 of a share: within ±2^9 by less than that
    const int64_t last = int64_t(to) * in.width;
    for (int64_t first = int64_t(from) * in.width; first < last; first += ROWS) {
        const int rows = int(std::min<int64_t>(ROWS, last - first));
        const uint8_t *sources[ROWS], *kept[ROWS];
        uint8_t top[ROWS];
        int64_t totals[ROWS];
        for (int r = 0; r < rows; r++) {
            const int y = int((first + r) / in.width), x = int((first + r) % in.width);
            sources[r] = in.at(arena, y, x), kept[r] = part.row(s, arena, y, x);
            Int greatest = fill(0);
            for (int c = 0; c < count; c += 64) {
                const Int levels = load_some(sources[r] + c, count - c);
                greatest = most_bytes(greatest, part.all(c) ? levels : both_bits(levels, part.from(kept[r], c)));
            }
            top[r] = uint8_t(largest_byte(greatest));
        }
        for (int r = 0; r < rows; r++) {
            const Int greatest = fill(top[r]);
            Long sums = broadcast_long(0);
            for (int c = 0; c < count;) {
                Int of_lanes = broadcast(0);  // up to 28 of at most 2^26
                for (const int end = std::min(count, c + 64 * 7); c < end; c += 64) {
                    Int a[4], mask[4];
                    table.at(subtract_bytes(greatest, load_some(sources[r] + c, count - c)), a);
                    if (!part.all(c)) {
                        widen_mask(part.from(kept[r], c), mask);
                        for (int k = 0; k < 4; k++) a[k] = both_bits(a[k], mask[k]);
                    }
                    for (int k = 0; k < 4; k++) store(exponentials.data() + int64_t(r) * room + c + 16 * k, a[k]);
                    of_lanes = add(of_lanes, add(add(a[0], a[1]), add(a[2], a[3])));
                }
                sums = add_long(sums, add_long(low_half(of_lanes), high_half(of_lanes)));
            }
            totals[r] = std::max<int64_t>(sum_long(sums), 1);
        }
        for (int r = 0; r < rows; r++) {
            uint8_t *target = out.at(arena, int((first + r) / in.width), int((first + r) % in.width));
            const int64_t total = totals[r];
            const Float factor = broadcast_float(float(double(2 * s.constant) / double(total << 15)));
            const auto exactly = [&](Int a) {
                const Divisor by(total << 15);
                const Long half = broadcast_long(total << 14);
                const auto share = [&](Long each) { return clamped(by.quotient(add_long(multiply_long(each, twice), half)), least, most); };
                return join_halves(share(low_half(a)), share(high_half(a)));
            };
            for (int c = 0; c < count; c += 64) {
                Int levels[4];
                for (int k = 0; k < 4; k++) {
                    const Int a = load(exponentials.data() + int64_t(r) * room + c + 16 * k);
                    levels[k] = rounding.whole(times(floats(a), factor), [&] { return exactly(a); });
                }
                store_sixteens(target + c, pack_lanes(rounding.bounds, levels[0], levels[1], levels[2], levels[3]), count - c);
            }
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
    int power = 0;
    int64_t root = 1;

    Root() = default;
    explicit Root(int64_t spread) : power((__builtin_clzll(uint64_t(spread)) - 2) / 2), root(square_root(spread << (2 * power))) {}

    // ⌊(d·2^(j + up) + root) / (2·root)⌋. j + up is above 61 only where D is epsilon alone, and so d is 0.
    Long units(Long d, int up) const { return Divisor(2 * root).quotient(add_long(shift_left(d, std::min(power + up, 63)), broadcast_long(root))); }
};

// 2^power, within float64's.
inline double power_of_two(int power) {
    const int64_t bits = int64_t(1023 + power) << 52;
    double value;
    std::memcpy(&value, &bits, 8);
    return value;
}

// Normalized deviations as levels from the zero point: by gamma in `bias`, and `offset`, or in float32, where the planner
// has found that good enough: `ratio` then holds gamma in steps of levels and, behind as many as channels and a vector,
// beta. What lies within ±2^9 levels is off by less than 2^-11, and all lies within ±2^18.
struct Affine {
    const EngineStep &s;
    int up, channels;
    const float *gamma, *beta;
    Rounding rounding;

    Affine(const EngineStep &step, int shift, int count)
        : s(step), up(shift), channels(count), gamma(s.requantize.ratio), beta(gamma ? gamma + channels + 16 : nullptr),
          rounding(s.requantize, 0x1p-11f) {}

    Float factor(const Root &root) const { return broadcast_float(float(power_of_two(root.power + up - 1) / double(root.root))); }

    // Sixteen, from channel c on; clamped where there is no float32.
    Int levels(const Root &root, Float factor, Int d, int c) const {
        const auto exactly = [&] {
            const Long least = broadcast_long(s.requantize.low), most = broadcast_long(s.requantize.high);
            const auto half = [&](Long part, int from) {
                const Long scaled = multiply_halves(root.units(part, up), load_half(s.bias + from));
                return clamped(shift_right(add_long(scaled, load_longs(s.offset + from)), s.shift), least, most);
            };
            return join_halves(half(low_half(d), c), half(high_half(d), c + 8));
        };
        if (!gamma) return exactly();
        return rounding.whole(plus(times(times(floats(d), factor), load_floats(gamma + c)), load_floats(beta + c)), exactly);
    }

    // The first `count` of sixteen to `out`, from channel c on.
    void store(const Root &root, Float factor, Int d, int c, uint8_t *out, int count, int size) const {
        const Int from_zero = levels(root, factor, d, c);
        if (size == 4) return store_levels(out, add(from_zero, broadcast(s.requantize.zero_point)), size, count);
        store_levels(out, quarter<0>(pack_levels(rounding.bounds, from_zero, from_zero, from_zero, from_zero)), count);
    }

    // All channels of a pixel, of which `deviation(c)` gives sixteen.
    template <class Deviation>
    void store_all(const Root &root, const Deviation &deviation, uint8_t *out, int size) const {
        const Float by = factor(root);
        if (size == 4) {
            for (int c = 0; c < channels; c += 16) store(root, by, deviation(c), c, out + int64_t(c) * size, channels - c, size);
            return;
        }
        for (int c = 0; c < channels; c += 64) {
            Int of[4] = {broadcast(0), broadcast(0), broadcast(0), broadcast(0)};
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                if (c + 16 * k < channels) of[k] = levels(root, by, deviation(c + 16 * k), c + 16 * k);
            store_sixteens(out + c, pack_levels(rounding.bounds, of[0], of[1], of[2], of[3]), channels - c);
        }
    }
};

// d / 2^bits, away from zero.
inline Long cut(Long d, int bits) {
    const Long rest = broadcast_long((int64_t(1) << bits) - 1);
    return shift_right(add_long(subtract_if_negative(d, rest), rest), bits);
}

// Σ c and Σ c² of a pixel's levels of 8 bits, c = level − zero_point: as products of four, and 64 at a time.
struct Moments {
    int64_t first = 0, second = 0;

    Moments() = default;
    Moments(const uint8_t *pixel, int count, int zero_point) {
        ByteSum sum;
        Int products = broadcast(0);  // Σ (q − DOT_OFFSET)·(q − 128)
        for (int c = 0; c < count; c += 64) {
            Int q = load_some(pixel + c, count - c), w = differ(q, fill(128));
            if (c + 64 > count) q = both_bits(q, ones_first(count - c)), w = both_bits(w, ones_first(count - c));
            sum.add_bytes(q);
            products = dot_each(products, q, as_weights(w));
        }
        const int64_t total = sum.total(), n = count, z = zero_point;
        const int64_t squares = ::sum(products) + (DOT_OFFSET + 128) * total - 128 * DOT_OFFSET * n;
        first = total - n * z, second = squares - 2 * z * total + n * z * z;
    }
};

// Normalizes the pixels of rows of 8-bit levels. `spread(moments)` is what the root is taken of, `deviation(levels,
// moments)` sixteen deviations. A few pixels at a time, since each waits for its root.
template <class Spread, class Deviation>
void normalize_pixels(const EngineStep &s, const Image &in, const Image &out, uint8_t *arena, int from, int to, int up, const Spread &spread,
                      const Deviation &deviation) {
    constexpr int PIXELS = 8;
    const int count = in.channels;
    const Affine affine(s, up, count);
    const int64_t last = int64_t(to) * in.width;
    for (int64_t first = int64_t(from) * in.width; first < last; first += PIXELS) {
        const int pixels = int(std::min<int64_t>(PIXELS, last - first));
        const uint8_t *sources[PIXELS];
        Moments moments[PIXELS];
        Root roots[PIXELS];
        for (int i = 0; i < pixels; i++) {
            sources[i] = in.at(arena, int((first + i) / in.width), int((first + i) % in.width));
            moments[i] = Moments(sources[i], count, in.zero_point);
        }
        for (int i = 0; i < pixels; i++) roots[i] = Root(spread(moments[i]));
        for (int i = 0; i < pixels; i++) {
            uint8_t *target = out.at(arena, int((first + i) / in.width), int((first + i) % in.width));
            affine.store_all(roots[i], [&](int c) { return deviation(widen(load_sixteen(sources[i] + c)), moments[i]); }, target, out.size);
        }
    }
}

// `bias` holds gamma, `offset` beta and half of a step, `constant` epsilon, `count` the bits by which deviations are cut
// before they are squared.
inline void layer_norm(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Image &in = images[s.source], &out = images[s.target];
    const int64_t n = in.channels;
    const Int size = broadcast(in.channels), zero_point = broadcast(in.zero_point);
    if (in.size == 1 && !s.count) {
        normalize_pixels(
            s, in, out, arena, from, to, 36,
            [&](const Moments &of) { return std::max<int64_t>((n * (n * of.second - of.first * of.first) << 10) + s.constant, 1); },
            [&](Int levels, const Moments &of) {
                return subtract(multiply(size, levels), broadcast(int32_t(of.first + n * in.zero_point)));
            });
        return;
    }
    const Affine affine(s, 36 - s.count, in.channels);
    for (int y = from; y < to; y++)
        for (int x = 0; x < in.width; x++) {
            const uint8_t *source = in.at(arena, y, x);
            const auto centred = [&](int c) {
                return keep(first_lanes(in.channels - c), subtract(load_levels(source + int64_t(c) * in.size, in.size), zero_point));
            };
            Int sums = broadcast(0);
            for (int c = 0; c < in.channels; c += 16) sums = add(sums, centred(c));
            const Int total = broadcast(sum(sums));
            const auto deviation = [&](int c) { return keep(first_lanes(in.channels - c), subtract(multiply(size, centred(c)), total)); };
            Long squares = broadcast_long(0);
            for (int c = 0; c < in.channels; c += 16) {
                const Int d = deviation(c);
                const Long low = cut(low_half(d), s.count), high = cut(high_half(d), s.count);
                squares = add_long(squares, add_long(multiply_halves(low, low), multiply_halves(high, high)));
            }
            const Root root(std::max<int64_t>((sum_long(squares) << 10) + s.constant, 1));
            affine.store_all(root, deviation, out.at(arena, y, x), out.size);
        }
}

// `bias` holds gamma, `offset` half of a step, `constant` epsilon; what the root is taken of is at least `least`.
inline void rms_norm(const EngineStep &s, const Image *images, uint8_t *arena, int from, int to) {
    const Int zero_point = broadcast(images[s.source].zero_point);
    normalize_pixels(
        s, images[s.source], images[s.target], arena, from, to, 41,
        [&](const Moments &of) { return std::max<int64_t>((of.second << 20) + s.constant, s.least); },
        [&](Int levels, const Moments &) { return subtract(levels, zero_point); });
}

}  // namespace
