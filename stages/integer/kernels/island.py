"""island: ``y = clamp(zy + rint(f(s·(q − z), …) / s_y))``, any float function f of reals, in float64.

What has no integer form stays float, between dequantize and quantize: f is the operator `operator` of the
float graph with its `attributes` and tensors, a function of torch, which it needs. NaN becomes real zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature

HOME = "stages.graph.islands"
"""The module that knows float functions: on the other side of the wall, so that only islands need torch."""


def _functions() -> Any:
    try:
        return import_module(HOME)
    except ImportError as error:
        raise ValueError(
            f"an island of float is computed by torch, which cannot be imported ({error}). "
            "Remedy: pip install torch, or convert a network without such operators"
        ) from error


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """As the function gives it."""
    shape: Shape = _functions().output_shape(op, shapes)
    return shape


SIGNATURE = Signature(
    inputs=(1, None), attrs=("operator", "attributes"), ratios="own", looks_up=True, shape=output_shape
)


def prepare(op: Op, program: Program) -> Kernel:
    """The float function, between scales."""
    function: Callable[..., NDArray[np.float64]] = _functions().prepare(op)
    inputs, y = [program.values[name] for name in op.inputs], program.values[op.output]

    def run(*operands: Integers) -> Integers:
        reals = [
            x.scale * (q.astype(np.float64) - x.zero_point) for x, q in zip(inputs, operands, strict=True)
        ]
        levels = np.rint(function(*reals) / y.scale)
        levels += y.zero_point
        np.nan_to_num(levels, copy=False, nan=y.zero_point)
        return np.clip(levels, op.attrs["act_min"], op.attrs["act_max"]).astype(y.dtype)

    return run
