"""The steps of each operator, listed in `DRAFTS` by its name; None where it is left to the reference."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.grouped import (
    GroupedBy,
    GroupShape,
    by_vectors,
    join,
    lanes,
    ratios_by_vectors,
)
from stages.backends.native_kernels.groups import group_layer
from stages.backends.native_kernels.matmul import matmul
from stages.backends.native_kernels.moves import move
from stages.backends.native_kernels.nibbles import as_nibbles, channels_read, nibble_fields
from stages.backends.native_kernels.normalizations import group_norm, layer_norm, rms_norm, softmax
from stages.backends.native_kernels.panels import panel_fields
from stages.backends.native_kernels.planner import Draft, Pins, image_shape, supported_shapes
from stages.backends.native_kernels.ratios import geometry, requantize, term
from stages.backends.native_kernels.structures import StepKind
from stages.backends.native_kernels.sums import combine, multiply, reduce, resample, rescale
from stages.backends.native_kernels.tables import (
    channel_table,
    constant,
    embedding,
    looked_up,
    table_of,
    table_of_input,
)
from stages.backends.native_kernels.tflm import PROFILE_DRAFTS
from stages.backends.native_kernels.tokens import repeats
from stages.backends.native_kernels.weights import DOT, bias, levels, pack, pack_depthwise, pack_twos
from stages.integer.program import Op, Program
from stages.integer.sums import check_sum


def drafts_of(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """The steps of an operator of a program with unsigned levels; `pins` keeps what they point to."""
    make = (PROFILE_DRAFTS if "profile" in op.attrs else DRAFTS).get(op.op)
    if make is None or not supported_shapes(op, program):
        return None
    return make(op, program, pins)


def _conv(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    x = program.values[op.inputs[0]]
    weight, zero_point = levels(op)
    shape = GroupShape.of(op)
    by = shape.by(zero_points=bool(zero_point.any()))
    residual = op.inputs[1] if len(op.inputs) == 2 else ""
    fields: tuple[tuple[str, Any], ...] = geometry(op, weight.shape[2:])
    if residual:
        fields = (*fields, ("term", term(op, program, name=residual, prefix="residual_")))
    pads = tuple(op.attrs.get("padding", (0, 0)))
    kind = StepKind.CONV
    if by is GroupedBy.DEPTHWISE and shape.outputs == 1:
        centred = weight - zero_point.reshape(-1, 1, 1, 1)
        packed, passes = pack_depthwise(centred)
        lacking = pins.dot_offset * centred.sum(axis=(1, 2, 3))
        constants = bias(op, weight, zero_point, x.zero_point, lacking)
        kind = StepKind.DEPTHWISE
        fields = (
            *fields,
            ("channels", shape.groups),
            ("target_channels", shape.groups),
            ("pixels", shape.depthwise_pixels),
            ("passes", passes),
            ("weight", pins(packed, ctypes.c_int8)),
            ("bias", pins(constants, ctypes.c_int32)),
            ("requantize", requantize(op, program, pins, rows=slice(0, shape.groups))),
        )
    elif by is GroupedBy.LANES:
        lacking = pins.dot_offset * weight.sum(axis=(1, 2, 3))
        kind = StepKind.LANES
        fields = (
            *fields,
            *lanes(shape, weight, pins),
            ("bias", pins(bias(op, weight, zero_point, x.zero_point, lacking), ctypes.c_int32)),
            ("requantize", requantize(op, program, pins, rows=slice(0, len(weight)))),
        )
    else:
        units = join(shape, weight, zero_point)
        pixels = math.prod(image_shape(program.values[op.output])[1:])
        nibbles = as_nibbles(units.reshape(-1, *units.shape[2:]), zero_point, pixels, pins)
        if nibbles is not None:
            units, zero_points = nibbles[0].reshape(units.shape), nibbles[1]
        else:
            zero_points = zero_point
        lacking = pins.dot_offset * units.sum(axis=(2, 3, 4)).reshape(-1)
        constants = bias(op, weight, zero_point, x.zero_point, lacking)[: len(weight)]
        own = _units(op, program, pins, units, constants, zero_points, nibbles=nibbles is not None)
        fields = (*fields, *own)
    return [Draft(kind, op.output, op.inputs[0], residual, fields, pads)]


def _units(
    op: Op,
    program: Program,
    pins: Pins,
    units: NDArray[np.int64],
    constants: NDArray[np.int32],
    zero_point: NDArray[np.int64],
    *,
    nibbles: bool,
) -> tuple[tuple[str, Any], ...]:
    """Fields of as many convolutions as there are `units`, (count, O, I, kH, kW), one after the other."""
    count, outputs, inputs = units.shape[:3]
    constants = by_vectors(constants, count)
    scaled = requantize(
        replace(op, tensors=ratios_by_vectors(op, count)),
        program,
        pins,
        rows=slice(0, len(constants)),
        weight_zero_point=by_vectors(zero_point, count),
    )
    # a single pixel shares weights with no other, and pictures take all levels alike
    several = image_shape(program.values[op.output])[1:] != (1, 1)
    by_panels = pins.panels and several and inputs > DOT
    twos = pins.panels and several and count == 1  # widens all channels, for one convolution
    zero = program.values[op.inputs[0]].zero_point
    return (
        ("channels", channels_read(inputs, nibbles)),
        ("target_channels", outputs),
        ("sum_channels", inputs),
        ("count", count),
        ("bias", pins(constants, ctypes.c_int32)),
        ("requantize", scaled),
        *(
            (nibble_fields(units, pins) if nibbles else ())
            or (panel_fields(units, constants, zero, pins) if by_panels else ())
            or ((("twos", 1), ("weight", pins(pack_twos(units[0]), ctypes.c_int8))) if twos else ())
            or (("weight", pins(np.concatenate([pack(unit) for unit in units]), ctypes.c_int8)),)
        ),
    )


def _avg_pool(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    fields = (*geometry(op, op.attrs["kernel"]), ("requantize", requantize(op, program, pins)))
    return [Draft(StepKind.AVG_POOL, op.output, op.inputs[0], fields=fields)]


def _mean(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    if tuple(op.attrs["axes"]) != (1, 2):
        return None
    check_sum(op, program)
    size = image_shape(program.values[op.inputs[0]])[1:]
    fields = (*geometry(op, size), ("requantize", requantize(op, program, pins)))
    return [Draft(StepKind.AVG_POOL, op.output, op.inputs[0], fields=fields)]


def _max_pool(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    lowest = np.array([program.values[op.inputs[0]].quant_min])
    fields = (*geometry(op, op.attrs["kernel"]), ("table", pins(lowest, ctypes.c_uint8)))
    return [Draft(StepKind.MAX_POOL, op.output, op.inputs[0], fields=fields)]


def _concat(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    drafts, before, axis = [], 0, op.attrs["axis"]
    offset = ("target_channel", "pad_h", "pad_w")[axis]
    for index, name in enumerate(op.inputs):
        shape = image_shape(program.values[name])
        table = pins(table_of_input(op, program, index), ctypes.c_uint8)
        drafts += _copy(replace(op, inputs=(name,)), shape[0], **{offset: before}, table=table)
        before += shape[axis]
    return drafts


def _requantize(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    if any(program.values[name].wide for name in (*op.inputs, op.output)):
        return rescale(op, program, pins)
    table = pins(table_of(op, program), ctypes.c_uint8)
    return _copy(op, image_shape(program.values[op.output])[0], table=table)


def _upsample(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    rows, columns = op.attrs["factor"]
    return _copy(op, image_shape(program.values[op.output])[0], divide_h=rows, divide_w=columns)


def _insert_zeros(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    rows, columns = op.attrs["factor"]
    channels = image_shape(program.values[op.output])[0]
    return _copy(op, channels, divide_h=rows, divide_w=columns, sparse=1, fill=1)


def _reshape(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    x, y = program.values[op.inputs[0]], program.values[op.output]
    if image_shape(x) == image_shape(y):
        return [replace(draft, relabels=True) for draft in _copy(op, image_shape(x)[0])]
    if len(y.shape) != 1:
        return None
    return [Draft(StepKind.COPY, op.output, op.inputs[0], fields=(("flatten", 1),))]


def _slice(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    x = program.values[op.inputs[0]]
    starts, ends, steps = (op.attrs[name] for name in ("starts", "ends", "steps"))
    ranges = [range(n)[slice(*of)] for n, *of in zip(x.shape, starts, ends, steps, strict=True)]
    ranges += [range(1)] * (3 - len(ranges))
    if ranges[0].step != 1 or not all(ranges):
        return None
    channels, rows, columns = ranges
    return _copy(
        op,
        len(channels),
        source_channel=channels.start,
        stride_h=rows.step,
        stride_w=columns.step,
        pad_h=-rows.start,
        pad_w=-columns.start,
    )


def _pad(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    channels = image_shape(program.values[op.inputs[0]])[0]
    (before, _), *sides = op.attrs["pads"]
    (top, _), (left, _) = sides or ((0, 0), (0, 0))
    return _copy(op, channels, target_channel=before, pad_h=top, pad_w=left, fill=1)


def _take(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Each channel of an image several times; other selections are moves."""
    x = program.values[op.inputs[0]]
    return _copy(op, image_shape(x)[0], repeat=repeats(op, x))


def _copy(op: Op, channels: int, **fields: Any) -> list[Draft]:
    defaults = {"stride_h": 1, "stride_w": 1, "divide_h": 1, "divide_w": 1, "channels": channels}
    merged: dict[str, Any] = defaults | fields
    return [Draft(StepKind.COPY, op.output, op.inputs[0], fields=tuple(merged.items()))]


DRAFTS: dict[str, Callable[[Op, Program, Pins], list[Draft] | None]] = {
    "conv2d": _conv,
    "linear": _conv,
    **dict.fromkeys(("group_conv2d", "group_linear"), group_layer),
    **dict.fromkeys(("add", "subtract", "maximum", "minimum"), combine),
    "multiply": multiply,
    "reduce": reduce,
    "resample": resample,
    "avg_pool2d": _avg_pool,
    "mean": _mean,
    "max_pool2d": _max_pool,
    "concat": _concat,
    "requantize": _requantize,
    "table": looked_up,
    "channel_table": channel_table,
    "constant": constant,
    "embedding": embedding,
    "upsample_nearest": _upsample,
    "insert_zeros": _insert_zeros,
    "reshape": _reshape,
    "slice": _slice,
    "take": _take,
    "pad": _pad,
    "move": move,
    "softmax": softmax,
    "matmul": matmul,
    "layer_norm": layer_norm,
    "rms_norm": rms_norm,
    "group_norm": group_norm,
}
