// Four registers of NEON (AArch64) as 64 bytes. With i8mm `usdot` multiplies levels and weights as they are. With
// dotprod alone `sdot` multiplies signed bytes, and without it `smull` does: both take levels less 128, which biases
// make up for (DOT_OFFSET).
#pragma once
#include <arm_neon.h>
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace {

struct Int {
    int32x4_t v[4];
};
struct Float {
    float32x4_t v[4];
};
struct Long {
    int64x2_t v[4];
};
using Sixteen = uint8x16_t;
using Mask = Int;

constexpr int MOST_VECTORS = 1;
#ifdef __ARM_FEATURE_DOTPROD
constexpr int most_pixels(int) { return 6; }  // 24 accumulators of four lanes, of 32 registers
#else
constexpr int most_pixels(int) { return 4; }  // products in int16 take registers too
#endif

inline void relax() { __asm__ volatile("yield"); }

template <class V = Int, class A, class F>
inline V each(const A &a, F f) { return {{f(a.v[0]), f(a.v[1]), f(a.v[2]), f(a.v[3])}}; }
template <class V = Int, class A, class B, class F>
inline V each(const A &a, const B &b, F f) { return {{f(a.v[0], b.v[0]), f(a.v[1], b.v[1]), f(a.v[2], b.v[2]), f(a.v[3], b.v[3])}}; }
inline Int same(int32x4_t x) { return {{x, x, x, x}}; }

inline uint8x16_t bytes_of(int32x4_t x) { return vreinterpretq_u8_s32(x); }
inline int32x4_t lanes_of(uint8x16_t x) { return vreinterpretq_s32_u8(x); }
// On the bytes of each register.
template <class F>
inline Int each_byte(const Int &a, const Int &b, F f) {
    return each(a, b, [&](int32x4_t x, int32x4_t y) { return lanes_of(f(bytes_of(x), bytes_of(y))); });
}

// Memory.
inline Int load(const void *p) {
    const auto *b = static_cast<const uint8_t *>(p);
    return {{lanes_of(vld1q_u8(b)), lanes_of(vld1q_u8(b + 16)), lanes_of(vld1q_u8(b + 32)), lanes_of(vld1q_u8(b + 48))}};
}
inline void store(void *p, const Int &x) {
    auto *b = static_cast<uint8_t *>(p);
    vst1q_u8(b, bytes_of(x.v[0])), vst1q_u8(b + 16, bytes_of(x.v[1])), vst1q_u8(b + 32, bytes_of(x.v[2])), vst1q_u8(b + 48, bytes_of(x.v[3]));
}
inline Int load_some(const void *p, int64_t) { return load(p); }
inline Int load_first(const void *p, int64_t count) {
    if (count >= 64) return load(p);
    uint8_t bytes[64] = {};
    std::memcpy(bytes, p, count);
    return load(bytes);
}
inline void store_first(void *p, const Int &x, int64_t count) {
    if (count >= 64) return store(p, x);
    uint8_t bytes[64];
    store(bytes, x);
    std::memcpy(p, bytes, count);
}
inline Sixteen load_sixteen(const void *p) { return vld1q_u8(static_cast<const uint8_t *>(p)); }
inline void store_sixteen(void *p, Sixteen x) { vst1q_u8(static_cast<uint8_t *>(p), x); }
inline Sixteen load_sixteen_first(const void *p, int count) {
    uint8_t bytes[16] = {};
    std::memcpy(bytes, p, std::min(count, 16));
    return vld1q_u8(bytes);
}
inline void store_sixteen_first(void *p, Sixteen x, int count) {
    uint8_t bytes[16];
    vst1q_u8(bytes, x);
    std::memcpy(p, bytes, std::min(count, 16));
}
inline Float load_floats(const float *p) { return {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}}; }
inline Float load_floats_first(const float *p, int count) {
    float values[16] = {};
    std::memcpy(values, p, 4 * std::min(count, 16));
    return load_floats(values);
}
inline Long load_longs(const int64_t *p) { return {{vld1q_s64(p), vld1q_s64(p + 2), vld1q_s64(p + 4), vld1q_s64(p + 6)}}; }
template <int PART>
inline Sixteen quarter(const Int &x) { return bytes_of(x.v[PART]); }
template <int PART>
inline void store_half(void *p, const Int &x) {
    auto *b = static_cast<uint8_t *>(p);
    vst1q_u8(b, bytes_of(x.v[2 * PART])), vst1q_u8(b + 16, bytes_of(x.v[2 * PART + 1]));
}

// Sixteen int32.
inline Int broadcast(int32_t x) { return same(vdupq_n_s32(x)); }
inline Int add(const Int &a, const Int &b) { return each(a, b, [](auto x, auto y) { return vaddq_s32(x, y); }); }
inline Int subtract(const Int &a, const Int &b) { return each(a, b, [](auto x, auto y) { return vsubq_s32(x, y); }); }
inline Int multiply(const Int &a, const Int &b) { return each(a, b, [](auto x, auto y) { return vmulq_s32(x, y); }); }
inline Int most(const Int &a, const Int &b) { return each(a, b, [](auto x, auto y) { return vmaxq_s32(x, y); }); }
inline int32_t sum(const Int &x) { return vaddvq_s32(vaddq_s32(vaddq_s32(x.v[0], x.v[1]), vaddq_s32(x.v[2], x.v[3]))); }
inline int32_t largest(const Int &x) { return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.v[0], x.v[1]), vmaxq_s32(x.v[2], x.v[3]))); }
inline Int widen(Sixteen x) {
    const uint16x8_t low = vmovl_u8(vget_low_u8(x)), high = vmovl_high_u8(x);
    return {{vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_high_u16(low)),
             vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), vreinterpretq_s32_u32(vmovl_high_u16(high))}};
}
inline Sixteen narrow(const Int &x) {
    const int16x8_t low = vcombine_s16(vmovn_s32(x.v[0]), vmovn_s32(x.v[1])), high = vcombine_s16(vmovn_s32(x.v[2]), vmovn_s32(x.v[3]));
    return vreinterpretq_u8_s8(vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}
inline Int gather(const int32_t *table, const Int &index) {
    alignas(16) int32_t of[16], found[16];
    store(of, index);
    for (int i = 0; i < 16; i++) found[i] = table[of[i]];
    return load(found);
}
inline Mask first_lanes(int count) {
    static const int32_t lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return each(load(lanes), [&](auto x) { return vreinterpretq_s32_u32(vcltq_s32(x, vdupq_n_s32(count))); });
}
inline Mask differing(Sixteen a, Sixteen b) {
    const Int same_ones = widen(vceqq_u8(a, b));
    return each(same_ones, [](auto x) { return vreinterpretq_s32_u32(vceqq_s32(x, vdupq_n_s32(0))); });
}
inline Mask both(const Mask &a, const Mask &b) { return each(a, b, [](auto x, auto y) { return vandq_s32(x, y); }); }
inline Int keep(const Mask &mask, const Int &x) { return both(mask, x); }

// 64 bytes, or 16.
inline Int fill(uint8_t x) { return same(lanes_of(vdupq_n_u8(x))); }
inline Sixteen fill_sixteen(uint8_t x) { return vdupq_n_u8(x); }
inline Int differ(const Int &a, const Int &b) { return each(a, b, [](auto x, auto y) { return veorq_s32(x, y); }); }
inline Int both_bits(const Int &a, const Int &b) { return each(a, b, [](auto x, auto y) { return vandq_s32(x, y); }); }
inline Int subtract_bytes(const Int &a, const Int &b) { return each_byte(a, b, [](auto x, auto y) { return vsubq_u8(x, y); }); }
inline Int unequal_bytes(const Int &a, const Int &b) { return each_byte(a, b, [](auto x, auto y) { return vmvnq_u8(vceqq_u8(x, y)); }); }
inline Int most_bytes(const Int &a, const Int &b) { return each_byte(a, b, [](auto x, auto y) { return vmaxq_u8(x, y); }); }
inline int32_t largest_byte(const Int &x) {
    return vmaxvq_u8(vmaxq_u8(vmaxq_u8(bytes_of(x.v[0]), bytes_of(x.v[1])), vmaxq_u8(bytes_of(x.v[2]), bytes_of(x.v[3]))));
}
inline Sixteen differ(Sixteen a, Sixteen b) { return veorq_u8(a, b); }
inline Sixteen most_bytes(Sixteen a, Sixteen b) { return vmaxq_u8(a, b); }
inline Sixteen zip8_low(Sixteen a, Sixteen b) { return vzip1q_u8(a, b); }
inline Sixteen zip8_high(Sixteen a, Sixteen b) { return vzip2q_u8(a, b); }
inline Sixteen zip16_low(Sixteen a, Sixteen b) { return vreinterpretq_u8_u16(vzip1q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b))); }
inline Sixteen zip16_high(Sixteen a, Sixteen b) { return vreinterpretq_u8_u16(vzip2q_u16(vreinterpretq_u16_u8(a), vreinterpretq_u16_u8(b))); }
inline Int zip8_low(const Int &a, const Int &b) { return each_byte(a, b, [](auto x, auto y) { return zip8_low(x, y); }); }
inline Int zip8_high(const Int &a, const Int &b) { return each_byte(a, b, [](auto x, auto y) { return zip8_high(x, y); }); }
inline Int zip16_low(const Int &a, const Int &b) { return each_byte(a, b, [](auto x, auto y) { return zip16_low(x, y); }); }
inline Int zip16_high(const Int &a, const Int &b) { return each_byte(a, b, [](auto x, auto y) { return zip16_high(x, y); }); }
inline Int join(Sixteen a, Sixteen b, Sixteen c, Sixteen d) { return {{lanes_of(a), lanes_of(b), lanes_of(c), lanes_of(d)}}; }
inline Int spread(Sixteen x, const Int &places) {
    return each(places, [&](int32x4_t of) { return lanes_of(vqtbl1q_u8(x, bytes_of(of))); });
}
inline void transpose_quarters(const Int *q, Int *out) {
    for (int i = 0; i < 4; i++) out[i] = {{q[0].v[i], q[1].v[i], q[2].v[i], q[3].v[i]}};
}
struct ByteSum {
    uint32_t sums = 0;
    void add_bytes(const Int &x) {
        for (int i = 0; i < 4; i++) sums += vaddlvq_u8(bytes_of(x.v[i]));
    }
    int32_t total() const { return int32_t(sums); }
};
// A table of 256 bytes: four look-ups of 64, which leave alone what lies beyond.
struct Table {
    uint8x16x4_t parts[4];
    explicit Table(const uint8_t *table) {
        for (int k = 0; k < 4; k++) parts[k] = vld1q_u8_x4(table + 64 * k);
    }
    Int at(const Int &levels) const {
        return each(levels, [&](auto x) {
            const uint8x16_t index = bytes_of(x);
            uint8x16_t found = vqtbl4q_u8(parts[0], index);
            for (int k = 1; k < 4; k++) found = vqtbx4q_u8(found, parts[k], vsubq_u8(index, vdupq_n_u8(uint8_t(64 * k))));
            return lanes_of(found);
        });
    }
};

// Products of four.
#ifdef __ARM_FEATURE_MATMUL_INT8
constexpr int DOT_OFFSET = 0;
using Levels = uint8x16_t;
inline Levels levels_of(uint8x16_t x) { return x; }
inline int32x4_t dot_register(int32x4_t sum, Levels x, int8x16_t w) { return vusdotq_s32(sum, x, w); }
#else
constexpr int DOT_OFFSET = 128;
using Levels = int8x16_t;
inline Levels levels_of(uint8x16_t x) { return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(128))); }
#ifdef __ARM_FEATURE_DOTPROD
inline int32x4_t dot_register(int32x4_t sum, Levels x, int8x16_t w) { return vdotq_s32(sum, x, w); }
#else
// A product is at most 128·128 in size, and int16 holds it; two are added in int32 only.
inline int32x4_t dot_register(int32x4_t sum, Levels x, int8x16_t w) {
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(w))), high = vpaddlq_s16(vmull_high_s8(x, w));
    return vaddq_s32(sum, vpaddq_s32(low, high));
}
#endif
#endif
using Four = Levels;
using Weights = Int;
inline Weights as_weights(const Int &x) { return x; }
inline Four four(const uint8_t *p) {
    uint32_t value;
    std::memcpy(&value, p, 4);
    return levels_of(vreinterpretq_u8_u32(vdupq_n_u32(value)));
}
inline int8x16_t weights_of(int32x4_t w) { return vreinterpretq_s8_s32(w); }
inline Weights load_weights(const void *p) { return load(p); }
inline Int dot(const Int &sum, Four x, const Weights &w) { return each(sum, w, [&](auto a, auto b) { return dot_register(a, x, weights_of(b)); }); }
inline Int dot_each(const Int &sum, const Int &x, const Weights &w) {
    const auto one = [&](int i) { return dot_register(sum.v[i], levels_of(bytes_of(x.v[i])), weights_of(w.v[i])); };
    return {{one(0), one(1), one(2), one(3)}};
}
inline Weights low_nibbles(const Int &w) { return each(w, [](auto x) { return lanes_of(vandq_u8(bytes_of(x), vdupq_n_u8(15))); }); }
inline Weights high_nibbles(const Int &w) { return each(w, [](auto x) { return lanes_of(vshrq_n_u8(bytes_of(x), 4)); }); }
inline Int sum_fours(const Int &sum, const Int &weights) {
    return each(sum, weights, [](auto a, auto w) { return vpadalq_s16(a, vpaddlq_s8(weights_of(w))); });
}

// Sixteen float32.
inline Float broadcast_float(float x) {
    const float32x4_t v = vdupq_n_f32(x);
    return {{v, v, v, v}};
}
inline Float floats(const Int &x) { return each<Float>(x, [](auto v) { return vcvtq_f32_s32(v); }); }
inline Int rounded(const Float &x) { return each<Int>(x, [](auto v) { return vcvtnq_s32_f32(v); }); }
inline Float round_even(const Float &x) { return each<Float>(x, [](auto v) { return vrndnq_f32(v); }); }
inline Float plus(const Float &a, const Float &b) { return each<Float>(a, b, [](auto x, auto y) { return vaddq_f32(x, y); }); }
inline Float times(const Float &a, const Float &b) { return each<Float>(a, b, [](auto x, auto y) { return vmulq_f32(x, y); }); }
inline Float over(const Float &a, const Float &b) { return each<Float>(a, b, [](auto x, auto y) { return vdivq_f32(x, y); }); }
inline bool any_above(const Float &x, const Float &limit) {
    uint32x4_t any = vdupq_n_u32(0);
    for (int i = 0; i < 4; i++) any = vorrq_u32(any, vcgtq_f32(x.v[i], limit.v[i]));
    return vmaxvq_u32(any) != 0;
}
inline Float clamped(const Float &x, const Float &low, const Float &high) {
    const Float greater = each<Float>(x, low, [](auto a, auto b) { return vmaxq_f32(a, b); });
    return each<Float>(greater, high, [](auto a, auto b) { return vminq_f32(a, b); });
}

// Eight int64.
inline Long broadcast_long(int64_t x) {
    const int64x2_t v = vdupq_n_s64(x);
    return {{v, v, v, v}};
}
inline Long add_long(const Long &a, const Long &b) { return each<Long>(a, b, [](auto x, auto y) { return vaddq_s64(x, y); }); }
inline Long subtract_long(const Long &a, const Long &b) { return each<Long>(a, b, [](auto x, auto y) { return vsubq_s64(x, y); }); }
inline Long multiply_long(const Long &a, const Long &b) {
    return each<Long>(a, b, [](auto x, auto y) {
        const uint64x2_t p = vreinterpretq_u64_s64(x), q = vreinterpretq_u64_s64(y);
        const uint64x2_t crossed = vmlal_u32(vmull_u32(vshrn_n_u64(p, 32), vmovn_u64(q)), vmovn_u64(p), vshrn_n_u64(q, 32));
        return vreinterpretq_s64_u64(vmlal_u32(vshlq_n_u64(crossed, 32), vmovn_u64(p), vmovn_u64(q)));
    });
}
inline Long multiply_halves(const Long &a, const Long &b) {
    return each<Long>(a, b, [](auto x, auto y) { return vmull_s32(vmovn_s64(x), vmovn_s64(y)); });
}
inline Long clamped(const Long &x, const Long &low, const Long &high) {
    const Long greater = each<Long>(x, low, [](auto a, auto b) { return vbslq_s64(vcgtq_s64(b, a), b, a); });
    return each<Long>(greater, high, [](auto a, auto b) { return vbslq_s64(vcgtq_s64(a, b), b, a); });
}
inline Long shift_left(const Long &x, int by) { return each<Long>(x, [&](auto v) { return vshlq_s64(v, vdupq_n_s64(by)); }); }
inline Long shift_right(const Long &x, int by) { return each<Long>(x, [&](auto v) { return vshlq_s64(v, vdupq_n_s64(-by)); }); }
inline Long shift_left(const Long &x, const Long &by) { return each<Long>(x, by, [](auto v, auto n) { return vshlq_s64(v, n); }); }
inline Long shift_right(const Long &x, const Long &by) { return each<Long>(x, by, [](auto v, auto n) { return vshlq_s64(v, vnegq_s64(n)); }); }
inline Long sign(const Long &x) { return each<Long>(x, [](auto v) { return vshrq_n_s64(v, 63); }); }
inline Long subtract_if_negative(const Long &x, const Long &y) {
    return each<Long>(x, y, [](auto v, auto taken) { return vsubq_s64(v, vandq_s64(vshrq_n_s64(v, 63), taken)); });
}
inline int64_t sum_long(const Long &x) { return vaddvq_s64(vaddq_s64(vaddq_s64(x.v[0], x.v[1]), vaddq_s64(x.v[2], x.v[3]))); }
inline Long round_times(const Long &x, double factor) {
    return each<Long>(x, [&](auto v) { return vcvtnq_s64_f64(vmulq_f64(vcvtq_f64_s64(v), vdupq_n_f64(factor))); });
}

// Between the two.
inline Long widened(int32x4_t low, int32x4_t high) {
    return {{vmovl_s32(vget_low_s32(low)), vmovl_high_s32(low), vmovl_s32(vget_low_s32(high)), vmovl_high_s32(high)}};
}
inline Long low_half(const Int &x) { return widened(x.v[0], x.v[1]); }
inline Long high_half(const Int &x) { return widened(x.v[2], x.v[3]); }
inline Long load_half(const int32_t *p) { return widened(vld1q_s32(p), vld1q_s32(p + 4)); }
inline Int join_halves(const Long &low, const Long &high) {
    const auto two = [](int64x2_t a, int64x2_t b) { return vcombine_s32(vmovn_s64(a), vmovn_s64(b)); };
    return {{two(low.v[0], low.v[1]), two(low.v[2], low.v[3]), two(high.v[0], high.v[1]), two(high.v[2], high.v[3])}};
}
inline Int odd(const Int &x) {
    return each(x, [](auto v) { return vreinterpretq_s32_u64(vshrq_n_u64(vreinterpretq_u64_s32(v), 32)); });
}
inline Long even_products(const Int &a, const Int &b) {
    return each<Long>(a, b, [](auto x, auto y) { return vmull_s32(vmovn_s64(vreinterpretq_s64_s32(x)), vmovn_s64(vreinterpretq_s64_s32(y))); });
}
inline Int join_even_odd(const Long &even, const Long &odd) {
    return each<Int>(even, odd, [](auto x, auto y) { return vreinterpretq_s32_s64(vsliq_n_s64(x, y, 32)); });
}
inline Long load_even(const int64_t *p) {
    const auto two = [&](int i) { return vuzp1q_s64(vld1q_s64(p + 4 * i), vld1q_s64(p + 4 * i + 2)); };
    return {{two(0), two(1), two(2), two(3)}};
}
inline Long load_odd(const int64_t *p) {
    const auto two = [&](int i) { return vuzp2q_s64(vld1q_s64(p + 4 * i), vld1q_s64(p + 4 * i + 2)); };
    return {{two(0), two(1), two(2), two(3)}};
}
inline Sixteen narrow_halves(const Long &low, const Long &high) { return narrow(join_halves(low, high)); }

struct Packing {
    int16x8_t zero_point;
    uint8x16_t low, high;
    Packing(int zero, int least, int greatest)
        : zero_point(vdupq_n_s16(int16_t(zero))), low(vdupq_n_u8(uint8_t(least))), high(vdupq_n_u8(uint8_t(greatest))) {}
    uint8x16_t bytes(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d) const {
        const int16x8_t ab = vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), zero_point);
        const int16x8_t cd = vqaddq_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)), zero_point);
        return vminq_u8(vmaxq_u8(vcombine_u8(vqmovun_s16(ab), vqmovun_s16(cd)), low), high);
    }
};
inline Int pack_levels(const Packing &p, const Int &a, const Int &b, const Int &c, const Int &d) {
    const auto one = [&](const Int &x) { return p.bytes(x.v[0], x.v[1], x.v[2], x.v[3]); };
    return join(one(a), one(b), one(c), one(d));
}
inline Int pack_lanes(const Packing &p, const Int &a, const Int &b, const Int &c, const Int &d) {
    const auto one = [&](int i) { return p.bytes(a.v[i], b.v[i], c.v[i], d.v[i]); };
    return join(one(0), one(1), one(2), one(3));
}

// Depthwise convolutions take a register's 16 channels at a time.
constexpr bool WHOLE_BLOCKS = false;
struct Part {
    using Register = int32x4_t;
    using Taps = int8x16_t;
    using Bounds = Packing;
    static constexpr int CHANNELS = 16;
    static Register load(const void *p) { return lanes_of(load_sixteen(p)); }
    static Register zero() { return vdupq_n_s32(0); }
    static Register low8(Register a, Register b) { return lanes_of(zip8_low(bytes_of(a), bytes_of(b))); }
    static Register high8(Register a, Register b) { return lanes_of(zip8_high(bytes_of(a), bytes_of(b))); }
    static Register low16(Register a, Register b) { return lanes_of(zip16_low(bytes_of(a), bytes_of(b))); }
    static Register high16(Register a, Register b) { return lanes_of(zip16_high(bytes_of(a), bytes_of(b))); }
    static Taps taps(const void *p) { return weights_of(load(p)); }
    static Register dot(Register sum, Register x, Taps w) { return dot_register(sum, levels_of(bytes_of(x)), w); }
    static Register scaled(Register x, const float *ratio) { return vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(x), vld1q_f32(ratio))); }
    static void store(uint8_t *out, const Bounds &bounds, const Register *x, int) { store_sixteen(out, bounds.bytes(x[0], x[1], x[2], x[3])); }
};

// Products of four saturate nowhere: no panels are needed.
using Pairs = void;
using Twos = void;

}  // namespace

#include "wide_table.h"
#include "nibbles.h"
