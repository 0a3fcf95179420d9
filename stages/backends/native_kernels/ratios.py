"""The program's ratios of scales as the engine applies them.

Both fixed points are cases of one form in int64,

    ``rescale(x) = sat((sat(x · 2^left) · multiplier + nudge − carry·[x < 0]) >> right)``

two roundings (`stages.integer.fixed_point`), with ``n = max(−shift, 0)``, by

    ``left = max(shift, 0), nudge = 2^30 + 2^31 · 2^(n−1), carry = 2^31 [n > 0], right = 31 + n``

and one rounding (`stages.integer.single_rounding`) by

    ``left = 0, nudge = 2^(30 − shift), carry = 0, right = 31 − shift``
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.structures import Ratio, Requantization
from stages.integer.program import Op, Program, Requantize

MODES: dict[Requantize, int] = {"float": 0, "fixed_point": 1, "fixed_point_single": 2, "tflm": 1}

CHANNELS = 64
"""The engine reads channels' constants so many at a time."""

NARROW = 0.25
"""Ratios below it bring accumulators, |x| < 2^31, into ±2^29, which leaves room for a residual."""

Pin = Callable[[NDArray[Any], type], Any]
"""Keeps an array alive and gives its address."""


def requantize(
    op: Op,
    program: Program,
    pin: Pin,
    *,
    rows: slice = slice(0, CHANNELS),
    index: int | None = None,
    weight_zero_point: NDArray[np.int64] | None = None,
) -> Requantization:
    """From accumulators to levels of the output.

    Args:
        op: has the ratios.
        program: unsigned; names the mode.
        pin: keeps the arrays.
        rows: output channels that the step computes.
        index: which one of several ratios (add); None for those of the channels.
        weight_zero_point: of all channels, (O,); None for zeros.
    """
    y = program.values[op.output]
    ratios = _ratios(op, program, "", index)
    count = rows.stop - rows.start
    per_channel = {name: _padded(a[rows] if a.size > 1 else a, count) for name, a in ratios.items()}
    zero_points = None
    if weight_zero_point is not None and weight_zero_point[rows].any():
        zero_points = pin(_padded(weight_zero_point[rows].astype(np.int32), count), ctypes.c_int32)
    mode = MODES[program.requantize]
    return Requantization(
        mode=mode,
        narrow=mode == 0 and bool((ratios["ratio"] < NARROW).all()) and _narrow_residual(op, program),
        headroom=op.attrs.get("headroom", 0),
        low=op.attrs["act_min"] - y.zero_point,
        high=op.attrs["act_max"] - y.zero_point,
        zero_point=y.zero_point,
        shifts_left=bool(ratios["left"].any()),
        saturates=mode == 2 and any(_grows(op, name) for name in ("shift", "residual_shift")),
        ratio=pin(per_channel["ratio"], ctypes.c_float),
        multiplier=pin(per_channel["multiplier"], ctypes.c_int32),
        left=pin(per_channel["left"], ctypes.c_int32),
        nudge=pin(per_channel["nudge"], ctypes.c_int64),
        carry=pin(per_channel["carry"], ctypes.c_int64),
        right=pin(per_channel["right"], ctypes.c_int64),
        weight_zero_point=zero_points,
    )


def ratio(multiplier: Any, shift: Any, zero_point: int) -> Ratio:
    """One ratio of fixed point with two roundings, of a value with that zero point."""
    found = {name: a.item() for name, a in _two_roundings(np.asarray(shift, np.int64)).items()}
    return Ratio(multiplier=int(multiplier), zero_point=zero_point, **found)


def term(op: Op, program: Program, *, name: str, prefix: str = "", index: int | None = None) -> Ratio:
    """The ratio of what accumulators are added: the value `name`, a residual or an add's second input."""
    ratios = {key: a.flat[0].item() for key, a in _ratios(op, program, prefix, index).items()}
    return Ratio(**ratios, zero_point=program.values[name].zero_point)


def geometry(op: Op, kernel: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
    """The fields of a window, of 1 × 1 where the operator names none."""
    pairs = {
        "kernel": kernel,
        "stride": op.attrs.get("stride", (1, 1)),
        "pad": op.attrs.get("padding", (0, 0)),
        "dilation": op.attrs.get("dilation", (1, 1)),
    }
    return tuple((f"{name}_{axis}", pair[i]) for name, pair in pairs.items() for i, axis in enumerate("hw"))


def _narrow_residual(op: Op, program: Program) -> bool:
    """Whether nothing wide is added or given, and what is added stays small."""
    ratio = op.tensors.get("residual_ratio")
    wide = any(program.values[name].wide for name in (*op.inputs, op.output))
    return not wide and (ratio is None or bool((ratio < 2.0**20).all()))


def _grows(op: Op, name: str) -> bool:
    return bool((op.tensors.get(name, np.zeros(1)) > 0).any())


def _ratios(op: Op, program: Program, prefix: str, index: int | None) -> dict[str, NDArray[Any]]:
    pick = slice(None) if index is None else slice(index, index + 1)
    shift = op.tensors[prefix + "shift"][pick].astype(np.int64)
    constants = {
        "ratio": op.tensors[prefix + "ratio"][pick].astype(np.float32),
        "multiplier": op.tensors[prefix + "multiplier"][pick].astype(np.int32),
    }
    if program.requantize == "fixed_point_single":
        zeros = np.zeros_like(shift)
        return constants | {
            "left": zeros.astype(np.int32),
            "nudge": np.int64(1) << (30 - shift),
            "carry": zeros,
            "right": 31 - shift,
        }
    return constants | _two_roundings(shift)


def _two_roundings(shift: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    divided = np.maximum(-shift, 0)
    half = (np.int64(1) << divided) >> 1
    return {
        "left": np.maximum(shift, 0).astype(np.int32),
        "nudge": 2**30 + (half << 31),
        "carry": np.where(shift < 0, np.int64(2**31), np.int64(0)),
        "right": divided + 31,
    }


def _padded(a: NDArray[Any], count: int) -> NDArray[Any]:
    """One entry a channel, and as many again as fill the last vector."""
    size = -(-count // CHANNELS) * CHANNELS
    if a.size == 1:
        return np.full(size, a.flat[0])
    return np.concatenate([a, np.zeros(size - count, a.dtype)])
