"""Element-wise functions, which become tables of 256 levels.

A table node's ``steps`` are tuples (name, *arguments), applied one after the other: ``(("affine", 1.0, 3.0),
("clamp", 0.0, 6.0))`` is ReLU6(x + 3), and ``(("times", (("sigmoid",),)),)`` is x · sigmoid(x).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Steps = tuple[tuple[Any, ...], ...]


def apply(steps: Steps, x: Tensor) -> Tensor:
    """The functions' result, in the dtype and shape of `x`.

    Computed in float64: the value of a level is then the same wherever it stands in a tensor, which float32's
    vectorized exponentials do not guarantee, and simulation and table agree to the bit.
    """
    return _apply(steps, x.double()).to(x.dtype)


def nearest_finite(y: Tensor) -> Tensor:
    """Values of ascending levels, of which those that are not finite take the nearest level's that is.

    Of two that are as near it is the upper: 1/x at 0 is that of the least positive level. Raises ValueError
    where none is finite.
    """
    finite = torch.isfinite(y)
    if finite.all():
        return y
    if not finite.any():
        raise ValueError("its function is finite on no level of its input. Remedy: clamp its input")
    known = finite.nonzero().flatten().flip(0)
    distance = (torch.arange(len(y))[:, None] - known).abs()
    return y[known[distance.argmin(dim=1)]]


def clamp(x: Tensor, low: float | None, high: float | None, *, in_place: bool = False) -> Tensor:
    """`x` between two bounds, either of which may be None; `in_place` where nobody else has or needs it."""
    if low is None and high is None:
        return x
    if low == 0.0 and high is None:
        return F.relu(x, inplace=in_place)
    return x.clamp_(low, high) if in_place else torch.clamp(x, low, high)


def _apply(steps: Steps, x: Tensor) -> Tensor:
    for name, *arguments in steps:
        x = FUNCTIONS[name](x, *arguments)
    return x


def _times(x: Tensor, steps: Steps) -> Tensor:
    return x * _apply(steps, x)


def _affine(x: Tensor, factor: float, offset: float) -> Tensor:
    return x * factor + offset


def _gelu(x: Tensor, approximate: str) -> Tensor:
    return F.gelu(x, approximate=approximate)


def _nonzero(x: Tensor) -> Tensor:
    return (x != 0.0).to(x.dtype)


def _compare(x: Tensor, relation: str, bound: float) -> Tensor:
    truth: Tensor = getattr(torch, relation)(x, bound)
    return truth.to(x.dtype)


def _elu(x: Tensor, alpha: float, scale: float, input_scale: float) -> Tensor:
    return scale * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0) * input_scale))


def _power(x: Tensor, exponent: float) -> Tensor:
    return torch.pow(x, exponent)


def _exponential(x: Tensor, base: float) -> Tensor:
    return torch.pow(base, x)


FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    "affine": _affine,
    "clamp": torch.clamp,
    "times": _times,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "abs": torch.abs,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "silu": F.silu,
    "mish": F.mish,
    "gelu": _gelu,
    "leaky_relu": F.leaky_relu,
    "elu": _elu,
    "nonzero": _nonzero,
    "compare": _compare,
    "softplus": F.softplus,
    "logsigmoid": F.logsigmoid,
    "softshrink": F.softshrink,
    "hardshrink": F.hardshrink,
    "threshold": F.threshold,
    "power": _power,
    "exponential": _exponential,
    **{
        name: getattr(torch, name)
        for name in (
            *("sqrt", "rsqrt", "reciprocal", "log", "log2", "log10", "log1p", "exp2", "expm1", "erf", "sign"),
            *("sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "floor", "ceil", "trunc"),
        )
    },
}
"""Name → function of a float64 tensor and the step's arguments."""
