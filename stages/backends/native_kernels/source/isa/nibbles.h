// Weights of 4 bits, 0..15, two to a byte: 64 bytes hold those of two dwords of levels, the first one's in the low halves.
#pragma once
#include <cstdint>

namespace {

struct Nibbles {
    Weights low, high;
};
inline Nibbles load_nibbles(const void *p) {
    const Int both = load(p);
    return {low_nibbles(both), high_nibbles(both)};
}
inline Int dot_nibbles(const Int &sum, const uint8_t *x, const Nibbles &w) { return dot(dot(sum, four(x), w.low), four(x + 4), w.high); }

}  // namespace
