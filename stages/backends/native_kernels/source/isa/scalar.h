// Plain C++, for any CPU: what each primitive gives, one number after the other. Compilers make vectors of some.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include "longs.h"

namespace {

struct Int {
    union {
        int32_t v[16];
        uint8_t bytes[64];
    };
};
struct Float {
    float v[16];
};
struct Sixteen {
    uint8_t v[16];
};
using Mask = Int;

constexpr int DOT_OFFSET = 0;
constexpr int MOST_VECTORS = 1;
constexpr int most_pixels(int) { return 4; }

inline void relax() {}

template <class V, class F>
inline V each(F f) {
    V y;
    for (int i = 0; i < 16; i++) y.v[i] = f(i);
    return y;
}
template <class F>
inline Int each_byte(F f) {
    Int y;
    for (int i = 0; i < 64; i++) y.bytes[i] = f(i);
    return y;
}

// Memory.
template <class V>
inline V loaded(const void *p) {
    V x;
    std::memcpy(&x, p, sizeof x);
    return x;
}
template <class V>
inline V loaded_first(const void *p, int64_t bytes) {
    V x = {};
    std::memcpy(&x, p, std::min<int64_t>(bytes, sizeof x));
    return x;
}
inline Int load(const void *p) { return loaded<Int>(p); }
inline void store(void *p, Int x) { std::memcpy(p, &x, 64); }
inline Int load_first(const void *p, int64_t count) { return loaded_first<Int>(p, count); }
inline Int load_some(const void *p, int64_t) { return load(p); }
inline void store_first(void *p, Int x, int64_t count) { std::memcpy(p, &x, std::min<int64_t>(count, 64)); }
inline Sixteen load_sixteen(const void *p) { return loaded<Sixteen>(p); }
inline void store_sixteen(void *p, Sixteen x) { std::memcpy(p, &x, 16); }
inline Sixteen load_sixteen_first(const void *p, int count) { return loaded_first<Sixteen>(p, count); }
inline void store_sixteen_first(void *p, Sixteen x, int count) { std::memcpy(p, &x, std::min(count, 16)); }
inline Float load_floats(const float *p) { return loaded<Float>(p); }
inline Float load_floats_first(const float *p, int count) { return loaded_first<Float>(p, 4 * int64_t(count)); }
template <int PART>
inline Sixteen quarter(Int x) { return loaded<Sixteen>(x.bytes + 16 * PART); }
template <int PART>
inline void store_half(void *p, Int x) { std::memcpy(p, x.bytes + 32 * PART, 32); }

// Sixteen int32, which wrap.
inline Int broadcast(int32_t x) { return each<Int>([&](int) { return x; }); }
inline Int add(Int a, Int b) { return each<Int>([&](int i) { return int32_t(uint32_t(a.v[i]) + uint32_t(b.v[i])); }); }
inline Int subtract(Int a, Int b) { return each<Int>([&](int i) { return int32_t(uint32_t(a.v[i]) - uint32_t(b.v[i])); }); }
inline Int multiply(Int a, Int b) { return each<Int>([&](int i) { return int32_t(uint32_t(a.v[i]) * uint32_t(b.v[i])); }); }
inline Int most(Int a, Int b) { return each<Int>([&](int i) { return std::max(a.v[i], b.v[i]); }); }
inline int32_t sum(Int x) {
    uint32_t sum = 0;
    for (int32_t v : x.v) sum += uint32_t(v);
    return int32_t(sum);
}
inline int32_t largest(Int x) { return *std::max_element(x.v, x.v + 16); }
inline Int widen(Sixteen x) { return each<Int>([&](int i) { return int32_t(x.v[i]); }); }
inline Sixteen narrow(Int x) { return each<Sixteen>([&](int i) { return uint8_t(x.v[i]); }); }
inline Int gather(const int32_t *table, Int index) { return each<Int>([&](int i) { return table[index.v[i]]; }); }
inline Mask first_lanes(int count) { return each<Int>([&](int i) { return i < count ? -1 : 0; }); }
inline Mask differing(Sixteen a, Sixteen b) { return each<Int>([&](int i) { return a.v[i] != b.v[i] ? -1 : 0; }); }
inline Mask both(Mask a, Mask b) { return each<Int>([&](int i) { return a.v[i] & b.v[i]; }); }
inline Int keep(Mask mask, Int x) { return both(mask, x); }

// 64 bytes, or 16.
inline Int fill(uint8_t x) { return each_byte([&](int) { return x; }); }
inline Sixteen fill_sixteen(uint8_t x) { return each<Sixteen>([&](int) { return x; }); }
inline Int differ(Int a, Int b) { return each<Int>([&](int i) { return a.v[i] ^ b.v[i]; }); }
inline Int both_bits(Int a, Int b) { return both(a, b); }
inline Int subtract_bytes(Int a, Int b) { return each_byte([&](int i) { return uint8_t(a.bytes[i] - b.bytes[i]); }); }
inline Int unequal_bytes(Int a, Int b) { return each_byte([&](int i) { return uint8_t(a.bytes[i] != b.bytes[i] ? 255 : 0); }); }
inline Int most_bytes(Int a, Int b) { return each_byte([&](int i) { return std::max(a.bytes[i], b.bytes[i]); }); }
inline int32_t largest_byte(Int x) { return *std::max_element(x.bytes, x.bytes + 64); }
inline Sixteen differ(Sixteen a, Sixteen b) { return each<Sixteen>([&](int i) { return uint8_t(a.v[i] ^ b.v[i]); }); }
inline Sixteen most_bytes(Sixteen a, Sixteen b) { return each<Sixteen>([&](int i) { return std::max(a.v[i], b.v[i]); }); }
// Of each 16 bytes of a and b eight, from byte FROM on, in turn: as elements of type T.
template <class T, int FROM, class V>
inline V zipped(const V &a, const V &b) {
    constexpr int COUNT = 8 / sizeof(T);
    V y;
    const auto *from_a = reinterpret_cast<const uint8_t *>(&a), *from_b = reinterpret_cast<const uint8_t *>(&b);
    auto *to = reinterpret_cast<uint8_t *>(&y);
    for (size_t part = 0; part < sizeof(V); part += 16) {
        T left[COUNT], right[COUNT], both[2 * COUNT];
        std::memcpy(left, from_a + part + FROM, 8), std::memcpy(right, from_b + part + FROM, 8);
        for (int i = 0; i < COUNT; i++) both[2 * i] = left[i], both[2 * i + 1] = right[i];
        std::memcpy(to + part, both, 16);
    }
    return y;
}
template <class V>
inline V zip8_low(V a, V b) { return zipped<uint8_t, 0>(a, b); }
template <class V>
inline V zip8_high(V a, V b) { return zipped<uint8_t, 8>(a, b); }
template <class V>
inline V zip16_low(V a, V b) { return zipped<uint16_t, 0>(a, b); }
template <class V>
inline V zip16_high(V a, V b) { return zipped<uint16_t, 8>(a, b); }
inline Int join(Sixteen a, Sixteen b, Sixteen c, Sixteen d) {
    const Sixteen parts[4] = {a, b, c, d};
    return loaded<Int>(parts);
}
// Each byte of the 16 that `places` names, within 0..15.
inline Int spread(Sixteen x, Int places) {
    uint8_t bytes[16];
    std::memcpy(bytes, &x, 16);
    return each_byte([&](int i) { return bytes[places.bytes[i]]; });
}
inline void transpose_quarters(const Int *q, Int *out) {
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) std::memcpy(out[i].bytes + 16 * j, q[j].bytes + 16 * i, 16);
}
struct ByteSum {
    uint32_t sum = 0;
    void add_bytes(Int x) {
        for (uint8_t byte : x.bytes) sum += byte;
    }
    int32_t total() const { return int32_t(sum); }
};
struct Table {
    const uint8_t *table;
    explicit Table(const uint8_t *of) : table(of) {}
    Int at(Int levels) const { return each_byte([&](int i) { return table[levels.bytes[i]]; }); }
};

// Products of four, in vectors as compilers offer them for any CPU. A product of a level and a weight fits int16,
// and a sum of two does not: even and odd ones are multiplied apart, and widened before they are added.
typedef int16_t Halves __attribute__((vector_size(16)));
typedef int32_t Words __attribute__((vector_size(16)));
using Four = int32_t;
struct Weights {
    Halves v[4];
};
inline Four four(const uint8_t *p) { return loaded<Four>(p); }
inline Weights load_weights(const void *p) { return loaded<Weights>(p); }
inline Weights as_weights(const Int &x) { return loaded<Weights>(&x); }
template <class F>
inline Int dot_words(const Int &sum, const Weights &w, F levels) {
    Int y;
    for (int i = 0; i < 4; i++) {
        const Words x = levels(i);
        const Words even = (Words)(((w.v[i] << 8) >> 8) * (Halves)(x & 0x00FF00FF)), odd = (Words)((w.v[i] >> 8) * (Halves)((x >> 8) & 0x00FF00FF));
        const Words total = loaded<Words>(sum.v + 4 * i) + ((even << 16) >> 16) + (even >> 16) + ((odd << 16) >> 16) + (odd >> 16);
        std::memcpy(y.v + 4 * i, &total, sizeof total);
    }
    return y;
}
inline Int dot(const Int &sum, Four x, const Weights &w) {
    return dot_words(sum, w, [&](int) { return Words{x, x, x, x}; });
}
inline Int dot_each(const Int &sum, const Int &x, const Weights &w) {
    return dot_words(sum, w, [&](int i) { return loaded<Words>(x.v + 4 * i); });
}
inline Int sum_fours(const Int &sum, const Int &weights) { return dot_each(sum, fill(1), as_weights(weights)); }
inline Weights low_nibbles(const Int &w) {
    const Int low = each_byte([&](int i) { return w.bytes[i] & 15; });
    return load_weights(&low);
}
inline Weights high_nibbles(const Int &w) {
    const Int high = each_byte([&](int i) { return w.bytes[i] >> 4; });
    return load_weights(&high);
}

// Sixteen float32.
inline Float broadcast_float(float x) { return each<Float>([&](int) { return x; }); }
inline Float floats(Int x) { return each<Float>([&](int i) { return float(x.v[i]); }); }
inline Float round_even(Float x) { return each<Float>([&](int i) { return std::nearbyintf(x.v[i]); }); }
inline Int rounded(Float x) { return each<Int>([&](int i) { return int32_t(std::nearbyintf(x.v[i])); }); }
inline Float plus(Float a, Float b) { return each<Float>([&](int i) { return a.v[i] + b.v[i]; }); }
inline Float times(Float a, Float b) { return each<Float>([&](int i) { return a.v[i] * b.v[i]; }); }
inline Float over(Float a, Float b) { return each<Float>([&](int i) { return a.v[i] / b.v[i]; }); }
inline bool any_above(Float x, Float limit) {
    bool any = false;
    for (int i = 0; i < 16; i++) any |= x.v[i] > limit.v[i];
    return any;
}
inline Float clamped(Float x, Float low, Float high) { return each<Float>([&](int i) { return std::min(std::max(x.v[i], low.v[i]), high.v[i]); }); }

// Between int32 and int64.
inline Long low_half(Int x) { return load_half(x.v); }
inline Long high_half(Int x) { return load_half(x.v + 8); }
inline Int join_halves(Long low, Long high) { return each<Int>([&](int i) { return int32_t(i < 8 ? low.v[i] : high.v[i - 8]); }); }
inline Int odd(Int x) { return each<Int>([&](int i) { return x.v[i | 1]; }); }
inline Long even_products(Int a, Int b) { return each_long([&](int i) { return int64_t(a.v[2 * i]) * b.v[2 * i]; }); }
inline Int join_even_odd(Long even, Long odd) { return each<Int>([&](int i) { return int32_t((i % 2 ? odd : even).v[i / 2]); }); }
inline Sixteen narrow_halves(Long low, Long high) { return narrow(join_halves(low, high)); }

struct Packing {
    int zero_point, low, high;
    Packing(int zero, int least, int greatest) : zero_point(zero), low(least), high(greatest) {}
    uint8_t level(int32_t x) const { return uint8_t(std::min(std::max(x + zero_point, low), high)); }
};
inline Int pack_levels(const Packing &p, Int a, Int b, Int c, Int d) {
    const Int parts[4] = {a, b, c, d};
    return each_byte([&](int i) { return p.level(parts[i / 16].v[i % 16]); });
}
inline Int pack_lanes(const Packing &p, Int a, Int b, Int c, Int d) {
    const Int parts[4] = {a, b, c, d};
    return each_byte([&](int i) { return p.level(parts[i / 4 % 4].v[i / 16 * 4 + i % 4]); });
}

// Depthwise convolutions always take whole blocks.
constexpr bool WHOLE_BLOCKS = true;
struct Whole;
using Part = Whole;

// Products of four saturate nowhere: no panels are needed.
using Pairs = void;
using Twos = void;

}  // namespace

#include "wide_table.h"
#include "nibbles.h"
