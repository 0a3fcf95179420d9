"""Sums, differences, products, quotients, powers, extremes: of two values, or of a value and a constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from stages.graph.aten.call import PREVIOUS, Call, Param, Ref, Translation, params
from stages.graph.aten.functions import affine, number, table
from stages.graph.ir import Node

Nodes = Node | tuple[Node, ...]


def of_two(call: Call, node: Node, *names: str) -> Node:
    """An operator whose inputs broadcast, on the call's operands, or on values by name.

    One of fewer dimensions is reshaped, constants are expanded to the result's shape.
    """
    rank = len(call.shape)
    names = names or (call.operand(0), call.operand(1))
    if node.op != "add":  # a sum may become a layer's residual, whose shape is the layer's
        names = tuple(unexpanded(call, name, names[1 - i]) for i, name in enumerate(names))
    inputs = []
    for name in names:
        shape = call.nodes[name].shape
        if len(shape) < rank:
            wide = (*[1] * (rank - len(shape)), *shape)
            name = call.emit(Node(name="", op="reshape", inputs=(name,), attrs={"shape": wide}, shape=wide))
        inputs.append(name)
    return replace(node, inputs=tuple(inputs))


def unexpanded(call: Call, name: str, other: str) -> str:
    """The name of what a value is the expansion of, where the other operand is as large as the result."""
    while (node := call.nodes[name]).op == "take" and call.nodes[other].shape == call.shape:
        axis, indices = node.attrs["axis"], node.attrs["indices"]
        if call.nodes[node.inputs[0]].shape[axis] != 1 or any(indices):
            break
        name = node.inputs[0]
    return name


def scaled(call: Call, position: int, factor: Param | None, offset: Param | None, axis: int) -> Node:
    """``factor_c · x + offset_c`` of the value at `position`, c the index along `axis`."""
    return Node(
        name="",
        op="scale_channels",
        inputs=(call.value(position),),
        attrs={"axis": axis},
        params=params(factor=factor, offset=offset),
    )


def channels(call: Call, position: int) -> tuple[Param, int] | None:
    """The constant at `position` as one number a channel, (C,), and the channels' dimension of a sample.

    None where it varies along several dimensions, or the value is broadcast.
    """
    param = call.args[position]
    if not isinstance(param, Param) or call.input_shape(1 - position) != call.shape:
        return None
    along = [dim for dim, size in enumerate(param.tensor.shape) if size != 1]
    if len(along) != 1:
        return None
    size = param.tensor.shape[along[0]]
    whole = call.params[call.constant(param, call.shape).params["value"]]
    axes = [axis for axis, length in enumerate(call.shape) if length == size]
    varies = [axis for axis in axes if not torch.equal(whole, whole.narrow(axis, 0, 1).expand_as(whole))]
    counted = len(call.shape) - (param.tensor.ndim - along[0])
    axis = varies[0] if varies else counted if counted in axes else axes[-1]
    return call.derived(param, param.tensor.reshape(-1).float()), axis


def _changed(call: Call, position: int, tensor: Tensor) -> Call:
    """The call with another constant in place of the one at `position`."""
    constant = call.derived(call.args[position], tensor)
    return replace(call, args=tuple(constant if i == position else a for i, a in enumerate(call.args)))


def _of_least(translation: Translation, call: Call) -> Node | tuple[Node, ...] | str:
    """A call with its constants in their least shapes: ``mean.expand_as(x)`` counts as ``mean``."""
    for position, argument in enumerate(call.args[:2]):
        if isinstance(argument, Param):
            sizes = zip(argument.tensor.shape, argument.tensor.stride(), strict=True)
            repeated = [dim for dim, (size, stride) in enumerate(sizes) if size > 1 and stride == 0]
            tensor = argument.tensor
            for dim in repeated:
                tensor = tensor.narrow(dim, 0, 1)
            call = _changed(call, position, tensor) if repeated else call
    return translation(call)


def _constant(call: Call) -> int | None:
    """The position of the operand that is a constant tensor."""
    return next((i for i, argument in enumerate(call.args[:2]) if isinstance(argument, Param)), None)


def _alpha(call: Call) -> float:
    return float(call.arg(2, "alpha", 1))


def _add(call: Call) -> Nodes:
    if (alpha := _alpha(call)) != 1.0:
        return _add_scaled(call, alpha)
    if (constant := number(call)) is not None:
        return affine(call, 1.0, constant)
    position = _constant(call)
    if position is not None and (found := channels(call, position)) is not None:
        return scaled(call, 1 - position, None, *found)
    return of_two(call, Node(name="", op="add"))


def _add_scaled(call: Call, alpha: float) -> Nodes:
    """``a + alpha · b``."""
    plain = replace(call, args=call.args[:2], kwargs={})
    if isinstance(call.args[1], int | float):
        return affine(call, 1.0, alpha * float(call.args[1]))
    if isinstance(call.args[1], Param):
        return _add(_changed(plain, 1, alpha * call.args[1].tensor))
    if alpha == -1.0:
        return _sub(plain)
    if (constant := number(plain)) is not None:
        return table(call, "affine", alpha, constant, position=1)
    times = replace(table(call, "affine", alpha, 0.0, position=1), shape=call.input_shape(1))
    return of_two(call, Node(name="", op="add"), call.operand(0), call.emit(times))


def _sub(call: Call) -> Nodes:
    if (alpha := _alpha(call)) != 1.0:
        return _add_scaled(call, -alpha)
    if (constant := number(call)) is not None:
        value_first = isinstance(call.args[0], Ref)
        return affine(call, 1.0, -constant) if value_first else affine(call, -1.0, constant)
    if call.args[0] == call.args[1]:
        raise ValueError("subtracts a value from itself; write zeros")
    position = _constant(call)
    if position == 1:
        return _add(_changed(replace(call, kwargs={}), 1, -call.args[1].tensor))
    if position == 0 and (found := channels(call, 0)) is not None:
        offset, axis = found
        return scaled(call, 1, call.derived(offset, torch.full_like(offset.tensor, -1.0)), offset, axis)
    return of_two(call, Node(name="", op="subtract"))


def _rsub(call: Call) -> Nodes:
    if (alpha := _alpha(call)) != 1.0:
        constant = number(call)
        if constant is None:
            raise ValueError(f"alpha={alpha:g} with two values; multiply before it")
        return affine(call, -alpha, constant)
    return _sub(replace(call, args=(call.args[1], call.args[0]), kwargs={}))


def _mul(call: Call) -> Nodes:
    if (constant := number(call)) is not None:
        return affine(call, constant, 0.0)
    if call.args[0] == call.args[1]:
        return table(call, "power", 2.0)
    position = _constant(call)
    if position is not None and (found := channels(call, position)) is not None:
        factor, axis = found
        return scaled(call, 1 - position, factor, None, axis)
    return of_two(call, Node(name="", op="multiply", attrs={"scale": 1.0}))


def _div(call: Call) -> Nodes:
    """By a number or a constant, times its reciprocal; by a value, times a table of 1/x."""
    if call.kwargs.get("rounding_mode"):
        raise ValueError("rounds its quotient; divide without rounding_mode")
    constant = number(call)
    if isinstance(call.args[0], Ref) and not isinstance(call.args[1], Ref):
        divisor = call.args[1].tensor if isinstance(call.args[1], Param) else torch.tensor(constant)
        if not divisor.all():
            raise ValueError("divides by zero")
        if constant is not None:
            return affine(call, 1.0 / constant, 0.0)
        return _mul(_changed(call, 1, 1.0 / divisor))
    inverse = table(call, "reciprocal", position=1)
    if constant is not None:
        return replace(inverse, attrs={"steps": (("reciprocal",), ("affine", constant, 0.0))})
    if call.args[0] == call.args[1]:
        raise ValueError("divides a value by itself; write ones")
    if isinstance(call.args[0], Ref):
        divisor_name = unexpanded(call, call.value(1), call.value(0))
        inverse = replace(inverse, inputs=(divisor_name,))
    inverse = replace(inverse, shape=call.nodes[inverse.inputs[0]].shape)
    if (found := channels(call, 0)) is not None:
        factor, axis = found
        return inverse, replace(scaled(call, 1, factor, None, axis), inputs=(PREVIOUS,))
    product = Node(name="", op="multiply", attrs={"scale": 1.0})
    return of_two(call, product, call.operand(0), call.emit(inverse))


def _pow(call: Call) -> Nodes | str:
    constant = number(call)
    if constant is None:
        raise ValueError("raises a value to another; only powers with a number have an integer form")
    if not isinstance(call.args[0], Ref):
        return table(call, "exponential", constant, position=1)
    if constant == 1.0:
        return call.value()
    return table(call, "power", constant)


def _extreme(name: str, call: Call) -> Nodes:
    """The larger or smaller of two; of a value and a number a table, whose result need not hold 0."""
    if (constant := number(call)) is None:
        return of_two(call, Node(name="", op=name))
    bounds = (constant, None) if name == "maximum" else (None, constant)
    return table(call, "clamp", *bounds, position=0 if isinstance(call.args[0], Ref) else 1)


_OF_TWO: Mapping[str, Translation] = {
    "add": _add,
    "sub": _sub,
    "subtract": _sub,
    "rsub": _rsub,
    "mul": _mul,
    "multiply": _mul,
    "div": _div,
    "divide": _div,
    "true_divide": _div,
    "pow": _pow,
    **{name: partial(_extreme, name) for name in ("maximum", "minimum")},
    "fmax": partial(_extreme, "maximum"),
    "fmin": partial(_extreme, "minimum"),
}

ARITHMETIC: Mapping[str, Translation] = {
    **{name: partial(_of_least, translation) for name, translation in _OF_TWO.items()},
    "square": lambda call: table(call, "power", 2.0),
}
