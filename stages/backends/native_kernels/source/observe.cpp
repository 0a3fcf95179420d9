// What float32 values are like: the extremes of each row, and how many of all lie in each bin of
// stages/quant/statistics.py, which says what the bins are. A library of its own, compiled in a second, so that
// calibration need not wait for the engine; plain loops, of which compilers make vectors.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace {

constexpr int MANTISSA_BITS = 10, STEPS = 1 << MANTISSA_BITS, OCTAVES = 31, HALF = OCTAVES * STEPS + 1, BINS = 2 * HALF - 1;
constexpr int MIN_EXPONENT = OCTAVES - 126, DROPPED = 23 - MANTISSA_BITS;
constexpr int LANES = 16;                                // where what lies in bin 0 is counted: equal neighbours do not wait for each other
constexpr int64_t CHUNK = 2048, PIECE = 8 * CHUNK;       // stays in L1 between its extremes and its bins; is one thread's
constexpr int32_t MAGNITUDE = 0x7FFFFFFF, INFINITE = 0x7F800000;

// Bits of floats as integers in the floats' order; its own inverse. Negative ones are the complement of their magnitude's bits.
inline int32_t ordered(int32_t bits) { return bits ^ ((bits >> 31) & MAGNITUDE); }

// In the order of `ordered`.
struct Extremes {
    int32_t low = INT32_MAX, high = INT32_MIN;
    void take(Extremes other) { low = std::min(low, other.low), high = std::max(high, other.high); }
    bool finite() const { return high < INFINITE && low > ~INFINITE; }
    int32_t magnitude() const { return std::max(high, ~low); }
};

Extremes extremes_of(const int32_t *bits, int64_t count) {
    int32_t low = INT32_MAX, high = INT32_MIN;
    for (int64_t i = 0; i < count; i++) {
        const int32_t value = ordered(bits[i]);
        low = value < low ? value : low, high = value > high ? value : high;
    }
    return {low, high};
}

// The least exponent with all magnitudes below 2^exponent.
int exponent_of(int32_t magnitude) { return std::max((magnitude >> 23) - 126, MIN_EXPONENT); }

// One thread's counts below 2^exponent: bin k of positive values at k, of negative ones at HALF + k, and bin 0 in
// its lanes at the end, what octaves that moved left there at 0.
struct Counts {
    int exponent = MIN_EXPONENT;
    bool negative = false;
    uint32_t of[2 * HALF + LANES] = {};

    void raise(int to) {
        if (to <= exponent) return;
        const int moved = std::min(to - exponent, OCTAVES) * STEPS;
        exponent = to;
        for (uint32_t *part : {of, of + HALF}) {
            for (int k = 1; k <= moved; k++) of[0] += part[k];
            std::memmove(part + 1, part + 1 + moved, (HALF - 1 - moved) * sizeof *part);
            std::fill(part + HALF - moved, part + HALF, 0);
        }
    }

    template <bool SIGNED>
    void count(const int32_t *bits, int64_t count) {
        int32_t places[CHUNK];
        const int32_t base = ((exponent - OCTAVES + 127) << MANTISSA_BITS) - 1;
        for (int64_t i = 0; i < count; i++) {
            const int32_t bin = ((SIGNED ? bits[i] & MAGNITUDE : bits[i]) >> DROPPED) - base;
            places[i] = bin <= 0 ? 2 * HALF + int32_t(i % LANES) : SIGNED ? bin + ((bits[i] >> 31) & HALF) : bin;
        }
        for (int64_t i = 0; i < count; i++) of[places[i]]++;
    }

    void take(const int32_t *bits, int64_t n, Extremes extremes) {
        raise(exponent_of(extremes.magnitude()));
        if (extremes.low < 0) {
            negative = true;
            count<true>(bits, n);
        } else {
            count<false>(bits, n);
        }
    }

    // Adds all to `counts`, from the most negative bin to the largest, which are below 2^to, and is empty then.
    void give(int64_t *counts, int to) {
        constexpr int BLOCK = 64;
        int64_t *zero = counts + HALF - 1;
        const int moved = std::min(to - exponent, OCTAVES) * STEPS;
        for (int sign = 1; sign >= (negative ? -1 : 1); sign -= 2) {
            uint32_t *part = sign > 0 ? of : of + HALF;
            for (int first = 1; first < HALF; first += BLOCK) {
                uint32_t any = 0;
                for (int i = 0; i < BLOCK; i++) any |= part[first + i];
                if (!any) continue;
                for (int i = 0; i < BLOCK; i++) zero[sign * std::max(first + i - moved, 0)] += part[first + i];
                std::fill(part + first, part + first + BLOCK, 0);
            }
        }
        static_assert((HALF - 1) % BLOCK == 0);
        *zero += of[0];
        for (int i = 0; i < LANES; i++) *zero += of[2 * HALF + i];
        clear_zeros();
    }

    void clear() {
        std::fill(of, of + 2 * HALF, 0);
        clear_zeros();
    }

  private:
    void clear_zeros() {
        of[0] = 0, negative = false;
        std::fill(of + 2 * HALF, of + 2 * HALF + LANES, 0);
    }
};

// Moves counts below 2^(exponent) to those below one that is `octaves` higher.
void move_octaves(int64_t *counts, int octaves) {
    const int moved = std::min(octaves, OCTAVES) * STEPS;
    int64_t *zero = counts + HALF - 1;
    for (int sign : {1, -1}) {
        for (int k = 1; k <= moved; k++) *zero += zero[sign * k];
        for (int k = 1; k < HALF; k++) zero[sign * k] = k + moved < HALF ? zero[sign * (k + moved)] : 0;
    }
}

// Pieces of rows, which threads take one after the other.
struct Work {
    const int32_t *bits;
    int64_t stride, count, pieces, all;
    std::vector<Extremes> found;
    std::vector<Counts *> counts;  // a thread's; none where extremes will do
    std::atomic<int64_t> next_piece{0};
    std::atomic<int> next_member{0};
    std::atomic<bool> finite{true};

    void run() {
        const size_t member = next_member.fetch_add(1);
        for (int64_t piece; (piece = next_piece.fetch_add(1, std::memory_order_relaxed)) < all;) {
            const int64_t first = piece % pieces * PIECE, end = std::min(first + PIECE, count);
            const int32_t *row = bits + piece / pieces * stride;
            for (int64_t i = first; i < end; i += CHUNK) {
                const int64_t n = std::min(CHUNK, end - i);
                const Extremes extremes = extremes_of(row + i, n);
                found[piece].take(extremes);
                if (!extremes.finite()) finite.store(false, std::memory_order_relaxed);
                if (!counts.empty() && finite.load(std::memory_order_relaxed)) counts[member]->take(row + i, n, extremes);
            }
        }
    }
};

// -0 is 0, and the extremes of what is not finite are not.
float real(int32_t value) {
    const int32_t bits = ordered(value);
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x + 0.0f;
}

std::vector<Counts *> empty_counts(int members, int exponent) {
    thread_local std::vector<std::unique_ptr<Counts>> kept;
    std::vector<Counts *> counts;
    for (int member = 0; member < members; member++) {
        if (int(kept.size()) <= member) kept.push_back(std::make_unique<Counts>());
        counts.push_back(kept[member].get());
        counts.back()->exponent = exponent;
    }
    return counts;
}

}  // namespace

extern "C" {

// How many bins there are, by which the caller sees that it speaks of the same ones.
int32_t bins() { return BINS; }

// Takes in `rows` rows of `count` floats, whose bits are given, `stride` apart. Gives each row's `extremes`, (min, max); adds to `counts`,
// if not null, which are below 2^exponent, and moves them to a higher one where values reach beyond it; returns that.
// What is not finite leaves `counts` as they are, and shows in the extremes. `parallel`, null for none, is the
// GOMP_parallel of an OpenMP runtime, whose threads share the work: those of others would wait for these, which spin.
int32_t observe(const int32_t *bits, int64_t rows, int64_t stride, int64_t count, float *extremes, int64_t *counts, int32_t exponent, int32_t threads,
                void (*parallel)(void (*)(void *), void *, unsigned, unsigned)) {
    const int64_t pieces = (count + PIECE - 1) / PIECE, all = rows * pieces;
    const int members = parallel ? int(std::min<int64_t>(threads, all)) : 1;
    Work work = {bits, stride, count, pieces, all, std::vector<Extremes>(all), {}};
    if (counts) work.counts = empty_counts(members, exponent);
    if (members > 1)
        parallel([](void *shared) { static_cast<Work *>(shared)->run(); }, &work, unsigned(members), 0);
    else
        work.run();
    Extremes total;
    for (int64_t row = 0; row < rows; row++) {
        Extremes whole;
        for (int64_t i = 0; i < pieces; i++) whole.take(work.found[row * pieces + i]);
        extremes[2 * row] = real(whole.low), extremes[2 * row + 1] = real(whole.high);
        total.take(whole);
    }
    if (!total.finite()) {
        for (Counts *each : work.counts) each->clear();
        return exponent;
    }
    const int highest = std::max(exponent, exponent_of(total.magnitude()));
    if (counts && highest > exponent) move_octaves(counts, highest - exponent);
    for (Counts *each : work.counts) each->give(counts, highest);
    return highest;
}
}
