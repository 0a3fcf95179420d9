// What the planner hands over: images in an arena, and steps that read and write them. Mirrors steps.py.
#pragma once
#include <cstdint>

// An image of one sample, channels last, inside a border that holds `zero_point`: of uint8, or of int32 where levels
// are wide. Levels that the program keeps as int8 are held here with 128 added.
struct Image {
    int32_t height, width, channels;
    int32_t stride;               // bytes from pixel to pixel; what lies between channels and stride is arbitrary
    int32_t border_h, border_w;   // rows above and below, columns left and right
    int32_t zero_point;
    int32_t size;                 // bytes of a level: 1 or 4; wide images have no border
    int64_t offset;               // of the border's first byte, in the arena

    int64_t row() const { return int64_t(width + 2 * border_w) * stride; }
    int64_t bytes() const { return (height + 2 * border_h) * row(); }
    uint8_t *at(uint8_t *arena, int y, int x) const {
        return arena + offset + (y + border_h) * row() + int64_t(x + border_w) * stride;
    }
};

constexpr int32_t RAW = 3;

// Accumulators to levels: the program's `rescale`, `headroom` and `clamp`. Arrays hold one entry a channel,
// padded to a multiple of 64. In 64 bits,
//     rescale(x) = sat((sat(x << left) · multiplier + nudge − carry·[x < 0]) >> right)
// where nudge and carry hold the rounding of one mode or another; see ratios.py.
struct Requantization {
    int32_t mode;                 // 0: float32 ratios, half to even; fixed point, what is over from the headroom
                                  // 1: half away from zero; 2: half towards +∞; RAW: accumulators as they are
    int32_t headroom;
    int32_t low, high;            // clamp, in levels from the zero point
    int32_t zero_point;
    int32_t shifts_left;          // whether any `left` is not 0
    int32_t narrow;               // mode 0: whether all that is rounded lies within ±2^30
    int32_t saturates;            // mode 2: whether a product may leave int32
    const float *ratio;           // of normalizations: gamma and beta, null where float32 does not tell levels apart
    const int32_t *multiplier, *left;
    const int64_t *nudge, *carry, *right;
    const int32_t *weight_zero_point;  // null where all are 0
};

// A residual's or a term's own ratio, one for all channels.
struct Ratio {
    float ratio;
    int32_t multiplier, left;
    int32_t zero_point;
    int64_t nudge, carry, right;
};

enum Kind : int32_t {
    INPUT, OUTPUT, CONV, DEPTHWISE, COMBINE, MULTIPLY, AVG_POOL, MAX_POOL, COPY, SOFTMAX, LAYER_NORM, MATMUL, MOVE, RESCALE, FILL, CONSTANT,
    EMBED, REDUCE, RMS_NORM, GROUP_NORM, RESAMPLE, CHANNEL_TABLE, GROUPS, TFLM_COMBINE, TFLM_AVG_POOL, TFLM_SOFTMAX,
    LANES
};

// COMBINE and REDUCE.
enum Operation : int32_t { SUM, DIFFERENCE, LARGEST, SMALLEST };

struct EngineStep {
    int32_t kind;
    int32_t source, residual, target;  // indices of images; residual −1 where there is none
    int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int32_t source_channel, target_channel;  // first channel that is read, written
    int32_t channels;             // how many are read; CONV: rounded up to 4, with weights of zero behind
    int32_t target_channels;      // how many are written
    int32_t pixels;               // DEPTHWISE: how many are computed together
    int32_t external;             // INPUT, OUTPUT: which array
    int32_t flip;                 // INPUT, OUTPUT: 128 where the array is int8, else 0
    int32_t fill;                 // COPY: first fill the target with its zero point
    int32_t divide_h, divide_w;   // COPY: rows and columns of the target that one of the source's becomes
    int32_t sparse;               // COPY: only the first of them
    int32_t repeat;               // COPY: how many channels of the target each of the source's becomes, if more than one
    int32_t flatten;              // COPY: the target is the source's vector in (C, H, W) order
    int32_t passes;               // DEPTHWISE: sets of weights, which add up; MOVE: dimensions; GROUP_NORM: bits of D
    int32_t sum_channels;         // CONV: how many channels weight zero points are multiplied with; LANES: read by sixteen outputs
    int32_t channels_last;        // INPUT, OUTPUT: whether the array is (pixels, channels) or (channels, pixels)
    int32_t shift;                // LAYER_NORM, RMS_NORM, GROUP_NORM: of the sum, to the right
    int32_t operation;
    int32_t count;                // LAYER_NORM: bits by which deviations are cut; MOVE: the dimension that `map` lists, −1 for
                                  // none; REDUCE: rows of a sum; EMBED: rows of the table; GROUP_NORM, GROUPS: groups;
                                  // CONV: as many convolutions, of neighbouring channels, `channels` to `target_channels` each
    int32_t up;                   // GROUP_NORM: by how much deviations are shifted to the left, beside the root's bits
    int32_t target_row, target_column;  // MOVE: where it begins to write, with target_channel
    int32_t level_offset;         // CONV, with `order`: s of panel.h
    int32_t twos;                 // CONV: whether weights have 16 bits, two a dword
    int32_t nibbles;              // CONV, GROUPS: whether weights have 4 bits, 0..15, two to a byte; then `channels` is a multiple of 8
    int64_t constant;             // SOFTMAX: the inverse of the output's scale; normalizations: epsilon
    int64_t least;                // RMS_NORM: what D is at least
    const int8_t *weight;
    const int32_t *bias;          // SOFTMAX: exponentials; normalizations: gamma; MOVE: dimensions
    const int64_t *offset;        // LAYER_NORM, GROUP_NORM: what is added before the shift
    const uint8_t *table;         // COPY, MOVE: of 256 levels; null copies levels as they are; CHANNEL_TABLE: one a channel or
                                  // row; EMBED, CONSTANT: rows of levels; LANES: (channels / 4, 64), see grouped.h
    const int32_t *map;           // of rows: which of the source's each row of the target reads; null for the same, or the only one
    const int32_t *residual_map;  // the same of the residual's; RESAMPLE: taps of rows in `map`, and of columns here
    const int32_t *panel_bias;    // CONV, with `order`: as `bias`, and s·Σ weight
    const uint16_t *order;        // CONV by panels: of each 16 output channels the window's dwords as weights have them,
                                  // doubled, pairs first, and where each dword has come to; null without panels
    const int32_t *pairs;         // CONV, with `order`: of each 16 output channels how many pairs
    Requantization requantize;
    Ratio term;                   // of the residual
    Ratio first, last;            // TFLM_COMBINE: of the first value, and of the sum
};
