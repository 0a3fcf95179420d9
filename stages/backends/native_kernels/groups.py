"""The step of a layer whose groups of input channels have ratios of their own."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.nibbles import as_nibbles, channels_read, pack_nibbles
from stages.backends.native_kernels.planner import Draft, Pins, image_shape
from stages.backends.native_kernels.ratios import CHANNELS, geometry, requantize, term
from stages.backends.native_kernels.structures import StepKind
from stages.backends.native_kernels.weights import bias, levels, pack
from stages.integer.program import Op, Program


def group_layer(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """One step: the weights and constants of each group in turn, padded to blocks of channels."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    weight, zero_point = levels(op)
    groups = op.attrs["groups"]
    outputs, inputs = len(weight) // groups, weight.shape[1]
    residual = op.inputs[1] if len(op.inputs) == 2 else ""
    size = image_shape(y)[1:]
    nibbles = as_nibbles(weight, zero_point, size[0] * size[1], pins)
    weight, zero_point = nibbles or (weight, zero_point)
    packed = np.concatenate([(pack_nibbles if nibbles else pack)(one) for one in np.split(weight, groups)])
    first = {"bias": np.concatenate([op.tensors["bias"], np.zeros(len(weight) - outputs, np.int64)])}
    lacking = pins.dot_offset * weight.sum(axis=(1, 2, 3))
    constants = bias(replace(op, tensors=first), weight, zero_point, x.zero_point, lacking)[: len(weight)]
    ratios = {
        name: _blocks(a, groups, outputs) if a.size > 1 and not name.startswith("residual_") else a
        for name, a in op.tensors.items()
        if name.removeprefix("residual_") in ("multiplier", "shift", "ratio")
    }
    scaled = requantize(
        replace(op, tensors=ratios),
        program,
        pins,
        rows=slice(0, groups * (-(-outputs // CHANNELS) * CHANNELS)),
        weight_zero_point=_blocks(zero_point, groups, outputs),
    )
    scaled.narrow = 0
    fields: tuple[tuple[str, Any], ...] = (
        *geometry(op, weight.shape[2:]),
        ("channels", channels_read(inputs, nibbles is not None)),
        ("nibbles", nibbles is not None),
        ("target_channels", outputs),
        ("sum_channels", inputs),
        ("count", groups),
        ("weight", pins(packed, ctypes.c_int8)),
        ("bias", pins(_blocks(constants, groups, outputs), ctypes.c_int32)),
        ("requantize", scaled),
    )
    if residual:
        fields = (*fields, ("term", term(op, program, name=residual, prefix="residual_")))
    pads = tuple(op.attrs.get("padding", (0, 0)))
    return [Draft(StepKind.GROUPS, y.name, x.name, residual, fields, pads)]


def _blocks(a: NDArray[Any], groups: int, outputs: int) -> NDArray[Any]:
    """(G·O,) with zeros behind the channels of each group."""
    return np.pad(a.reshape(groups, outputs), ((0, 0), (0, -outputs % CHANNELS))).reshape(-1)
