// The engine: runs the planner's steps over samples, each sample through the whole network before the next, so
// that activations stay in cache.
#include <atomic>
#include <chrono>
#include "conv.h"
#include "depthwise.h"
#include "depthwise3.h"
#include "elementwise.h"
#include "grouped.h"
#include "groups.h"
#include "images.h"
#include "limit.h"
#include "matmul.h"
#include "move.h"
#include "panel.h"
#include "reduce.h"
#include "rows.h"
#include "team.h"
#include "tflm.h"

namespace {

struct Plan {
    const EngineStep *steps;
    const Image *images;
    int32_t step_count;
};

// An external array, (samples, bytes).
struct ExternalArray {
    uint8_t *data;
    int64_t bytes;
};

int rows_of(const EngineStep &s, const Image *images) { return images[s.kind == OUTPUT ? s.source : s.target].height; }

void run_rows(const Plan &plan, const EngineStep &s, uint8_t *arena, const ExternalArray *arrays, int64_t sample, int from, int to) {
    const Image *images = plan.images;
    switch (s.kind) {
        case INPUT: read_input(s, images, arena, arrays[s.external].data + sample * arrays[s.external].bytes, from, to); break;
        case OUTPUT: write_output(s, images, arena, arrays[s.external].data + sample * arrays[s.external].bytes, from, to); return;
        case CONV:
            if (s.count > 1)
                convolve_units(s, images, arena, from, to, 0, s.count);
            else
                convolve_best(s, images, arena, from, to, 0, s.target_channels);
            break;
        case LANES: convolve_lanes(s, images, arena, from, to); break;
        case DEPTHWISE: (is_depthwise3(s) ? convolve_depthwise3 : convolve_depthwise)(s, images, arena, from, to); break;
        case COMBINE: combine(s, images, arena, from, to); break;
        case MULTIPLY: multiply(s, images, arena, from, to); break;
        case AVG_POOL: average(s, images, arena, from, to); break;
        case MAX_POOL: maximum(s, images, arena, from, to); break;
        case COPY: copy(s, images, arena, from, to); break;
        case SOFTMAX: softmax(s, images, arena, from, to); break;
        case MOVE: move(s, images, arena, from, to); break;
        case MATMUL: multiply_matrices(s, images, arena, from, to); break;
        case LAYER_NORM: layer_norm(s, images, arena, from, to); break;
        case RMS_NORM: rms_norm(s, images, arena, from, to); break;
        case GROUP_NORM: group_norm(s, images, arena, from, to); break;
        case RESCALE: rescale_levels(s, images, arena, from, to); break;
        case FILL: fill_rows(s, images, arena, from, to); break;
        case CONSTANT: read_constant(s, images, arena, from, to); break;
        case EMBED: embed(s, images, arena, from, to); break;
        case REDUCE: reduce(s, images, arena, from, to); break;
        case RESAMPLE: resample(s, images, arena, from, to); break;
        case CHANNEL_TABLE: look_up_channels(s, images, arena, from, to); break;
        case GROUPS: convolve_groups(s, images, arena, from, to); break;
        case TFLM_COMBINE: combine_finely(s, images, arena, from, to); break;
        case TFLM_AVG_POOL: average_levels(s, images, arena, from, to); break;
        case TFLM_SOFTMAX: softmax_by_reciprocal(s, images, arena, from, to); break;
    }
    fill_border(images[s.target], arena, from, to);
}

// Part `part` of `parts` of a step: rows, or the channels of a convolution where they divide more evenly.
void run_part(const Plan &plan, const EngineStep &s, uint8_t *arena, const ExternalArray *arrays, int64_t sample, int part, int parts) {
    const int rows = rows_of(s, plan.images);
    if (s.kind == CONV) {
        // groups by themselves, where none writes over what another part has written
        const int blocks = s.count == 1 ? (s.target_channels + CHANNELS - 1) / CHANNELS : s.target_channels % 16 ? 1 : s.count;
        const auto excess = [parts](int n) { return double((n + parts - 1) / parts) / n; };
        if (excess(blocks) < excess(rows)) {
            const int first = blocks * part / parts, last = blocks * (part + 1) / parts;
            if (s.count > 1)
                convolve_units(s, plan.images, arena, 0, rows, first, last);
            else
                convolve_best(s, plan.images, arena, 0, rows, first * CHANNELS, std::min(last * CHANNELS, s.target_channels));
            if (part == 0) fill_border(plan.images[s.target], arena, 0, rows);
            return;
        }
    }
    const int from = rows * part / parts, to = rows * (part + 1) / parts;
    if (from < to) run_rows(plan, s, arena, arrays, sample, from, to);
}

void run_sample(const Plan &plan, uint8_t *arena, const ExternalArray *arrays, int64_t sample, double *seconds) {
    for (int i = 0; i < plan.step_count; i++) {
        const auto start = std::chrono::steady_clock::now();
        run_rows(plan, plan.steps[i], arena, arrays, sample, 0, rows_of(plan.steps[i], plan.images));
        if (seconds) seconds[i] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
}

}  // namespace

extern "C" {

// Sizes of the structures, by which the planner sees that it speaks of the same ones.
void layout(int64_t *sizes) {
    sizes[0] = sizeof(Image), sizes[1] = sizeof(EngineStep), sizes[2] = sizeof(Requantization), sizes[3] = sizeof(Ratio);
}

// What `dot` takes away from levels before it multiplies: biases make up for it.
int32_t dot_offset() { return DOT_OFFSET; }

// Whether convolutions go by panels, for which the planner orders weights.
int32_t panels() { return !std::is_void_v<Pairs>; }

// clamp(rint(x / scale) + zero_point) in float32, as the low byte of each level.
void quantize(const float *x, uint8_t *levels, int64_t count, float scale, float zero_point, float low, float high) {
    const Float scales = broadcast_float(scale), zeros = broadcast_float(zero_point);
    const Float lows = broadcast_float(low), highs = broadcast_float(high);
    const auto sixteen = [&](Float reals) { return narrow(rounded(clamped(plus(round_even(over(reals, scales)), zeros), lows, highs))); };
    int64_t i = 0;
    for (; i + 16 <= count; i += 16) store_sixteen(levels + i, sixteen(load_floats(x + i)));
    if (i < count) store_sixteen_first(levels + i, sixteen(load_floats_first(x + i, int(count - i))), int(count - i));
}

// Does `rounds` rounds of products in registers, the fastest that there are here or, if `plain`, as all CPUs have them; returns
// how many levels were multiplied. `from` has 64 numbers, `levels` 8, `weights` 256.
int64_t products(int64_t rounds, int32_t plain, const int32_t *from, const uint8_t *levels, const int8_t *weights, int32_t *sum) {
    if constexpr (!std::is_void_v<Pairs>) {
        if (!plain) return repeat_pairs<Pairs>(rounds, from, levels, weights, sum);
    }
    return repeat_products(rounds, from, levels, weights, sum);
}

// (level − zero_point) · scale in float32; `flip` is 128 where levels are int8, else 0.
void dequantize(const uint8_t *levels, float *x, int64_t count, float scale, int32_t zero_point, int32_t flip) {
    const int32_t zero = zero_point + flip;
    for (int64_t i = 0; i < count; i++) x[i] = float(int32_t(levels[i] ^ flip) - zero) * scale;
}

void *team(int32_t size) { return new Team(size); }

void disband(void *team) { delete static_cast<Team *>(team); }

// Runs all samples. Members of the team take whole samples, each in an arena of its own (64-byte aligned); where
// there are fewer samples than members they share each step of a sample, in arenas[0]. Without a team the caller
// works alone, and `seconds`, if not null, gets the time of each step.
void run(const EngineStep *steps, const Image *images, int32_t step_count, uint8_t *const *arenas, void *team_or_null, const ExternalArray *arrays,
         int64_t samples, double *seconds) {
    const Plan plan = {steps, images, step_count};
    Team *team = static_cast<Team *>(team_or_null);
    const int members = team ? team->size() : 1;
    if (members == 1) {
        for (int64_t sample = 0; sample < samples; sample++) run_sample(plan, arenas[0], arrays, sample, seconds);
    } else if (samples >= members) {
        std::atomic<int64_t> next{0};
        team->run([&](int member) {
            for (int64_t sample; (sample = next.fetch_add(1, std::memory_order_relaxed)) < samples;)
                run_sample(plan, arenas[member], arrays, sample, nullptr);
        });
    } else {
        team->run([&](int member) {
            for (int64_t sample = 0; sample < samples; sample++)
                for (int i = 0; i < step_count; i++) {
                    run_part(plan, steps[i], arenas[0], arrays, sample, member, members);
                    team->meet();
                }
        });
    }
}
}
