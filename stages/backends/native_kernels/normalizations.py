"""The steps of softmax and normalizations over channels: in 64 bits, whatever the mode."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.planner import Draft, Pins, image_shape
from stages.backends.native_kernels.structures import StepKind
from stages.backends.native_kernels.sums import unscaled
from stages.integer.kernels.group_norm import spread_bits, unit_bits
from stages.integer.program import Op, Program

LANES = 16
"""Channels that the engine reads constants of at a time, from any channel on."""


MOST_GAMMA, MOST_BETA = 2.0**-13, 2.0**8
"""In levels: up to these, float32 is off by less than source/rows.h allows for, as sums of its terms show.

Of a level within ±2^9: half a unit times gamma, 2^-14; three roundings of the product and the factor's own,
``4·2^-24·(2^9 + 2^8)``; beta's, ``2^-25·2^8``; the sum's, ``2^-24·2^9``: 2.9e-4 in all, and 2^-11 is 4.9e-4.
"""


def softmax(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Along the channels, of all entries or those that a second input keeps, in each row or in some."""
    if op.attrs["axis"] != 0:
        return None
    keep = op.inputs[1] if len(op.inputs) == 2 else ""
    fields: tuple[tuple[str, Any], ...] = (
        ("requantize", unscaled(op, program)),
        ("bias", pins(op.tensors["exponentials"], ctypes.c_int32)),
        ("constant", int(op.tensors["inverse_scale"][0])),
    )
    kept_rows = op.attrs["maps"][1] if keep and "maps" in op.attrs else None
    if kept_rows is not None:
        fields = (*fields, ("residual_map", pins(kept_rows, ctypes.c_int32)))
    return [Draft(StepKind.SOFTMAX, op.output, op.inputs[0], keep, fields)]


def layer_norm(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Over the channels."""
    fields = (*_affine(op, program, pins), ("constant", op.attrs["epsilon"]), ("count", op.attrs["narrow"]))
    return [Draft(StepKind.LAYER_NORM, op.output, op.inputs[0], fields=fields)]


def rms_norm(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Over the channels."""
    if op.attrs["axis"] != 0:
        return None
    fields = (
        *_affine(op, program, pins),
        ("constant", op.attrs["epsilon"]),
        ("least", op.attrs["floor"]),
    )
    return [Draft(StepKind.RMS_NORM, op.output, op.inputs[0], fields=fields)]


def group_norm(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """Over groups of channels, of all pixels."""
    channels, height, width = image_shape(program.values[op.inputs[0]])
    size = channels * height * width // op.attrs["groups"]
    bits = spread_bits(size)
    fields = (
        *_affine(op, program, pins),
        ("constant", op.attrs["epsilon"]),
        ("count", op.attrs["groups"]),
        ("passes", bits),
        ("up", bits // 2 + 31 - unit_bits(size)),
    )
    return [Draft(StepKind.GROUP_NORM, op.output, op.inputs[0], fields=fields)]


def _affine(op: Op, program: Program, pins: Pins) -> tuple[tuple[str, Any], ...]:
    """Gamma, beta with half a step, and the shift behind them; both as reals where those fit."""
    gamma, shift = op.tensors["gamma"], op.attrs["shift"]
    beta = op.tensors.get("beta", np.zeros(len(gamma), np.int64))
    offset = beta + (1 << (shift - 1))
    bounds = unscaled(op, program)
    reals = [a.astype(np.float64) * 2.0**-shift for a in (gamma, beta)]
    fits = all(np.abs(a).max() <= most for a, most in zip(reals, (MOST_GAMMA, MOST_BETA), strict=True))
    if fits and not program.values[op.output].wide:
        bounds.ratio = pins(np.concatenate([_filled(a) for a in reals]), ctypes.c_float)
    return (
        ("requantize", bounds),
        ("bias", pins(_filled(gamma), ctypes.c_int32)),
        ("offset", pins(_filled(offset), ctypes.c_int64)),
        ("shift", shift),
    )


def _filled(a: NDArray[Any]) -> NDArray[Any]:
    """Zeros behind, for a vector that begins at the last."""
    return np.pad(a, (0, LANES))
