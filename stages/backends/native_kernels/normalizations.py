"""The steps of softmax and layer normalization over channels: in 64 bits, whatever the mode."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.planner import Draft, Pins, image_shape
from stages.backends.native_kernels.structures import Requantization, StepKind
from stages.integer.program import Op, Program

LANES = 16
"""Channels that the engine reads constants of at a time."""


def softmax(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Along the channels, of all entries or those that a second input keeps, in each row or in all."""
    if op.attrs["axis"] != 0:
        return None
    keep = op.inputs[1] if len(op.inputs) == 2 else ""
    if keep:
        shapes = [image_shape(program.values[name]) for name in op.inputs]
        (channels, rows, columns), (kept, kept_rows, kept_columns) = shapes
        if kept != channels or kept_rows not in (1, rows) or kept_columns not in (1, columns):
            return None
    fields = (
        ("requantize", _clamp(op, program)),
        ("bias", pins(op.tensors["exponentials"], ctypes.c_int32)),
        ("constant", int(op.tensors["inverse_scale"][0])),
    )
    return [Draft(StepKind.SOFTMAX, op.output, op.inputs[0], keep, fields)]


def layer_norm(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Over the channels."""
    shift = op.attrs["shift"]
    fields = (
        ("requantize", _clamp(op, program)),
        ("bias", pins(_filled(op.tensors["gamma"]), ctypes.c_int32)),
        ("offset", pins(_filled(op.tensors["beta"] + (1 << (shift - 1))), ctypes.c_int64)),
        ("constant", op.attrs["epsilon"]),
        ("shift", shift),
    )
    return [Draft(StepKind.LAYER_NORM, op.output, op.inputs[0], fields=fields)]


def _clamp(op: Op, program: Program) -> Requantization:
    zero_point = program.values[op.output].zero_point
    low, high = op.attrs["act_min"] - zero_point, op.attrs["act_max"] - zero_point
    return Requantization(low=low, high=high, zero_point=zero_point)


def _filled(a: NDArray[Any]) -> NDArray[Any]:
    """Zeros behind, up to whole vectors."""
    return np.pad(a, (0, -len(a) % LANES))
