"""Element-wise functions, which become tables: see `stages.graph.functions`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from stages.graph.aten.call import Call, Param, Ref, Translation
from stages.graph.aten.refusal import RefusalError
from stages.graph.ir import Node

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Klambauer et al. 2017, arXiv 1706.02515."""


def table(call: Call, *step: Any, position: int = 0) -> Node:
    """A table of one step over a value."""
    return Node(name="", op="table", inputs=(call.value(position),), attrs={"steps": (step,)})


def affine(call: Call, factor: float, offset: float) -> Node:
    """``factor · x + offset`` of the operand that is a value."""
    return table(call, "affine", factor, offset, position=0 if isinstance(call.args[0], Ref) else 1)


def number(call: Call) -> float | None:
    """The operand, one of two, that is a number or a constant of one element; None where neither is."""
    for argument in call.args[:2]:
        if isinstance(argument, int | float):
            return float(argument)
        if isinstance(argument, Param) and argument.tensor.numel() == 1:
            return float(argument.tensor)
    return None


def _named(name: str, call: Call) -> Node:
    return table(call, name)


def _gelu(call: Call) -> Node:
    return table(call, "gelu", str(call.arg(1, "approximate", "none")))


def _leaky_relu(call: Call) -> Node:
    return table(call, "leaky_relu", float(call.arg(1, "negative_slope", 0.01)))


def _rrelu(call: Call) -> Node:
    """In evaluation its slope is the mean of those that training draws."""
    if call.arg(3, "training", False):
        raise RefusalError("draws random numbers in evaluation; write training=self.training")
    slopes = float(call.arg(1, "lower", 1 / 8)), float(call.arg(2, "upper", 1 / 3))
    return table(call, "leaky_relu", sum(slopes) / 2)


def _elu(call: Call) -> Node:
    alpha, scale = float(call.arg(1, "alpha", 1.0)), float(call.arg(2, "scale", 1.0))
    return table(call, "elu", alpha, scale, float(call.arg(3, "input_scale", 1.0)))


def _selu(call: Call) -> Node:
    return table(call, "elu", SELU_ALPHA, SELU_SCALE, 1.0)


def _celu(call: Call) -> Node:
    alpha = float(call.arg(1, "alpha", 1.0))
    return table(call, "elu", alpha, 1.0, 1.0 / alpha)


def _neg(call: Call) -> Node:
    return affine(call, -1.0, 0.0)


def _softplus(call: Call) -> Node:
    return table(call, "softplus", float(call.arg(1, "beta", 1.0)), float(call.arg(2, "threshold", 20.0)))


def _shrink(name: str, call: Call) -> Node:
    return table(call, name, float(call.arg(1, "lambd", 0.5)))


def _threshold(call: Call) -> Node:
    return table(call, "threshold", float(call.arg(1, "threshold")), float(call.arg(2, "value")))


_PLAIN = (
    *(
        "sigmoid",
        "tanh",
        "exp",
        "abs",
        "hardsigmoid",
        "hardswish",
        "silu",
        "mish",
        "softsign",
        "sqrt",
        "rsqrt",
    ),
    *("reciprocal", "log", "log2", "log10", "log1p", "exp2", "expm1", "erf", "sign", "sin", "cos", "tan"),
    *("asin", "acos", "atan", "sinh", "cosh", "asinh", "floor", "ceil", "trunc"),
)

TABLES: Mapping[str, Translation] = {
    **{name: partial(_named, name) for name in _PLAIN},
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "rrelu": _rrelu,
    "elu": _elu,
    "selu": _selu,
    "celu": _celu,
    "neg": _neg,
    "softplus": _softplus,
    "log_sigmoid": partial(_named, "logsigmoid"),
    "log_sigmoid_forward": partial(_named, "logsigmoid"),
    "softshrink": partial(_shrink, "softshrink"),
    "hardshrink": partial(_shrink, "hardshrink"),
    "threshold": _threshold,
}
