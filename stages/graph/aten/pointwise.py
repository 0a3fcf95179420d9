"""Clamps (ReLU and its kin), sums and products, and calls that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from stages.graph.aten.call import PREVIOUS, Call, Param, Ref, Translation
from stages.graph.aten.functions import affine, number
from stages.graph.aten.refusal import RefusalError
from stages.graph.ir import Node


def _clamp_node(call: Call, low: float | None, high: float | None) -> Node:
    if (low is not None and low > 0) or (high is not None and high < 0):
        raise ValueError(f"bounds [{low}, {high}] leave out 0, which must stay representable")
    return Node(name="", op="clamp", inputs=(call.value(),), clamp_min=low, clamp_max=high)


def _relu(call: Call) -> Node:
    return _clamp_node(call, 0.0, None)


def _relu6(call: Call) -> Node:
    return _clamp_node(call, 0.0, 6.0)


def _bound(value: Any) -> float | None:
    if isinstance(value, Ref | Param):
        raise ValueError("its bounds are tensors; use numbers")
    return None if value is None else float(value)


def _hardtanh(call: Call) -> Node:
    return _clamp_node(call, _bound(call.arg(1, "min_val", -1.0)), _bound(call.arg(2, "max_val", 1.0)))


def _clamp(call: Call) -> Node:
    return _clamp_node(call, _bound(call.arg(1, "min")), _bound(call.arg(2, "max")))


def _clamp_min(call: Call) -> Node:
    return _clamp_node(call, _bound(call.arg(1, "min")), None)


def _clamp_max(call: Call) -> Node:
    return _clamp_node(call, None, _bound(call.arg(1, "max")))


def _add(call: Call) -> Node | tuple[Node, ...]:
    if call.kwargs.get("alpha", 1) != 1:
        raise ValueError("alpha is not 1; scale in the layer before it")
    if (constant := number(call)) is not None:
        return affine(call, 1.0, constant)
    if (operands := _with_constant(call)) is not None:
        return _joined(operands, Node(name="", op="add"))
    left, right = call.input_shape(0), call.input_shape(1)
    if left != right:
        raise ValueError(f"broadcasts {left} with {right}; only equal shapes have an integer kernel")
    return Node(name="", op="add", inputs=(call.value(0), call.value(1)))


def _mul(call: Call) -> Node | tuple[Node, ...]:
    if (constant := number(call)) is not None:
        return affine(call, constant, 0.0)
    product = Node(name="", op="multiply", attrs={"scale": 1.0})
    if (operands := _with_constant(call)) is not None:
        return _joined(operands, product)
    return replace(product, inputs=(call.value(0), call.value(1)))


def _with_constant(call: Call) -> tuple[str, Node] | None:
    """The value and the constant of a call that has one of each, the constant expanded to the result."""
    for position, argument in enumerate(call.args[:2]):
        if isinstance(argument, Param):
            if call.input_shape(1 - position) != call.shape:
                raise ValueError("broadcasts a value with a constant; only the constant may be broadcast")
            return call.value(1 - position), call.constant(argument, call.shape)
    return None


def _joined(operands: tuple[str, Node], node: Node) -> tuple[Node, ...]:
    value, constant = operands
    return constant, replace(node, inputs=(value, PREVIOUS))


def _div(call: Call) -> Node:
    constant = number(call)
    if constant is None or not isinstance(call.args[0], Ref) or call.kwargs.get("rounding_mode"):
        raise ValueError("only the division of a value by a number has an integer form")
    if constant == 0.0:
        raise ValueError("divides by zero")
    return affine(call, 1.0 / constant, 0.0)


def _sub(call: Call) -> Node:
    constant = number(call)
    if constant is None or call.kwargs.get("alpha", 1) != 1:
        raise ValueError("subtracts two values; negate in the layer before it, and add")
    return affine(call, 1.0, -constant) if isinstance(call.args[0], Ref) else affine(call, -1.0, constant)


def _rsub(call: Call) -> Node:
    constant = number(call)
    if constant is None or call.arg(2, "alpha", 1) != 1:
        raise ValueError("subtracts two values; negate in the layer before it, and add")
    return affine(call, -1.0, constant)


def _dropout(function: str, call: Call) -> Node | str:
    p = float(call.arg(1, "p", 0.5))
    if call.arg(2, "train", False):
        raise RefusalError(
            "drops values in evaluation too: F.dropout is on unless it is told otherwise. Write "
            f"F.dropout(x, {p:g}, training=self.training), or nn.Dropout({p:g})"
        )
    if p == 0.0:
        return call.value()
    return Node(name="", op="dropout", inputs=(call.value(),), attrs={"function": function, "p": p})


def _identity(call: Call) -> str:
    return call.value()


_DROPOUTS = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
"""Functions of torch: (x, p, train) to x with a share p of its values, or of its channels, dropped."""

POINTWISE: Mapping[str, Translation] = {
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "add": _add,
    "mul": _mul,
    "div": _div,
    "sub": _sub,
    "rsub": _rsub,
    **{name: partial(_dropout, name) for name in _DROPOUTS},
    "contiguous": _identity,
    "clone": _identity,
    "detach": _identity,
    "alias": _identity,
}
