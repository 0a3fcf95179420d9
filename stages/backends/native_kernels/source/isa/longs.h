// Eight int64 one by one, for instruction sets that have few operations on them. `Int` is read through `lanes`.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

struct Long {
    int64_t v[8];
};

template <class F>
inline Long each_long(F f) {
    Long y;
    for (int i = 0; i < 8; i++) y.v[i] = f(i);
    return y;
}

inline Long broadcast_long(int64_t x) { return each_long([&](int) { return x; }); }
inline Long load_longs(const int64_t *p) { return each_long([&](int i) { return p[i]; }); }
inline Long add_long(Long a, Long b) { return each_long([&](int i) { return a.v[i] + b.v[i]; }); }
inline Long subtract_long(Long a, Long b) { return each_long([&](int i) { return a.v[i] - b.v[i]; }); }
inline Long multiply_long(Long a, Long b) { return each_long([&](int i) { return int64_t(uint64_t(a.v[i]) * uint64_t(b.v[i])); }); }
inline Long multiply_halves(Long a, Long b) { return each_long([&](int i) { return int64_t(int32_t(a.v[i])) * int32_t(b.v[i]); }); }
inline Long clamped(Long x, Long low, Long high) { return each_long([&](int i) { return std::min(std::max(x.v[i], low.v[i]), high.v[i]); }); }
inline Long shift_left(Long x, int by) { return each_long([&](int i) { return int64_t(uint64_t(x.v[i]) << by); }); }
inline Long shift_right(Long x, int by) { return each_long([&](int i) { return x.v[i] >> by; }); }
inline Long shift_left(Long x, Long by) { return each_long([&](int i) { return int64_t(uint64_t(x.v[i]) << by.v[i]); }); }
inline Long shift_right(Long x, Long by) { return each_long([&](int i) { return x.v[i] >> by.v[i]; }); }
inline Long sign(Long x) { return shift_right(x, 63); }
inline Long subtract_if_negative(Long x, Long y) { return each_long([&](int i) { return x.v[i] < 0 ? x.v[i] - y.v[i] : x.v[i]; }); }
inline int64_t sum_long(Long x) {
    int64_t sum = 0;
    for (int64_t v : x.v) sum += v;
    return sum;
}
inline Long round_times(Long x, double factor) { return each_long([&](int i) { return int64_t(std::nearbyint(double(x.v[i]) * factor)); }); }
inline Long load_half(const int32_t *p) { return each_long([&](int i) { return int64_t(p[i]); }); }
inline Long load_even(const int64_t *p) { return each_long([&](int i) { return p[2 * i]; }); }
inline Long load_odd(const int64_t *p) { return each_long([&](int i) { return p[2 * i + 1]; }); }

}  // namespace
