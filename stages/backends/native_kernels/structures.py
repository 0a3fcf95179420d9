"""What the planner hands to the engine, field by field as in ``source/step.h``, which explains them."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_float, c_int8, c_int32, c_int64, c_uint8, c_uint16, c_void_p
from enum import IntEnum


class StepKind(IntEnum):
    """What a step does."""

    INPUT = 0
    OUTPUT = 1
    CONV = 2
    DEPTHWISE = 3
    COMBINE = 4
    MULTIPLY = 5
    AVG_POOL = 6
    MAX_POOL = 7
    COPY = 8
    SOFTMAX = 9
    LAYER_NORM = 10
    MATMUL = 11
    MOVE = 12
    RESCALE = 13
    FILL = 14
    CONSTANT = 15
    EMBED = 16
    REDUCE = 17
    RMS_NORM = 18
    GROUP_NORM = 19
    RESAMPLE = 20
    CHANNEL_TABLE = 21
    GROUPS = 22
    TFLM_COMBINE = 23
    TFLM_AVG_POOL = 24
    TFLM_SOFTMAX = 25
    LANES = 26


class Operation(IntEnum):
    """What COMBINE makes of two values, REDUCE of many."""

    SUM = 0
    DIFFERENCE = 1
    LARGEST = 2
    SMALLEST = 3


def _int32(*names: str) -> list[tuple[str, type]]:
    return [(name, c_int32) for name in names]


class Image(ctypes.Structure):
    """An image of one sample, channels last, in the arena: of uint8, or of int32 where levels are wide."""

    _fields_ = (
        *_int32("height", "width", "channels", "stride", "border_h", "border_w", "zero_point", "size"),
        ("offset", c_int64),
    )

    @property
    def bytes(self) -> int:
        """With its border."""
        rows, columns = self.height + 2 * self.border_h, self.width + 2 * self.border_w
        return int(rows * columns * self.stride)


class Requantization(ctypes.Structure):
    """Accumulators to levels, channel by channel."""

    _fields_ = (
        *_int32("mode", "headroom", "low", "high", "zero_point", "shifts_left", "narrow", "saturates"),
        ("ratio", POINTER(c_float)),
        ("multiplier", POINTER(c_int32)),
        ("left", POINTER(c_int32)),
        ("nudge", POINTER(c_int64)),
        ("carry", POINTER(c_int64)),
        ("right", POINTER(c_int64)),
        ("weight_zero_point", POINTER(c_int32)),
    )


class Ratio(ctypes.Structure):
    """The one ratio of a residual."""

    _fields_ = (
        ("ratio", c_float),
        *_int32("multiplier", "left", "zero_point"),
        ("nudge", c_int64),
        ("carry", c_int64),
        ("right", c_int64),
    )


class EngineStep(ctypes.Structure):
    """One call of a kernel."""

    _fields_ = (
        *_int32("kind", "source", "residual", "target"),
        *_int32("kernel_h", "kernel_w", "stride_h", "stride_w", "pad_h", "pad_w", "dilation_h", "dilation_w"),
        *_int32("source_channel", "target_channel", "channels", "target_channels", "pixels", "external"),
        *_int32(
            "flip", "fill", "divide_h", "divide_w", "sparse", "repeat", "flatten", "passes", "sum_channels"
        ),
        *_int32("channels_last", "shift", "operation", "count", "up", "target_row", "target_column"),
        *_int32("level_offset", "twos", "nibbles"),
        ("constant", c_int64),
        ("least", c_int64),
        ("weight", POINTER(c_int8)),
        ("bias", POINTER(c_int32)),
        ("offset", POINTER(c_int64)),
        ("table", POINTER(c_uint8)),
        ("map", POINTER(c_int32)),
        ("residual_map", POINTER(c_int32)),
        ("panel_bias", POINTER(c_int32)),
        ("order", POINTER(c_uint16)),
        ("pairs", POINTER(c_int32)),
        ("requantize", Requantization),
        ("term", Ratio),
        ("first", Ratio),
        ("last", Ratio),
    )


class ExternalArray(ctypes.Structure):
    """An array of samples outside the arena."""

    _fields_ = (("data", c_void_p), ("bytes", c_int64))


STRUCTURES = (Image, EngineStep, Requantization, Ratio)
