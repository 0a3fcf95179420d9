"""Sums, variances, norms and extremes along dimensions, and what divides by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from stages.graph.aten.call import Call, Param, Translation, params
from stages.graph.aten.chain import Chain
from stages.graph.aten.functions import table
from stages.graph.ir import Node
from stages.integer.kernels.group_norm import MAX_SIZE, size_of


def _axes(call: Call, dims: Any) -> tuple[int, ...]:
    """Dimensions of a sample, ascending; ValueError where the batch is among them."""
    dims = (dims,) if isinstance(dims, int) else dims
    if dims is None or len(dims) == 0:
        raise ValueError("reduces all dimensions, the batch too; name the others")
    return tuple(sorted({call.axis(dim) for dim in dims}))


def _without(shape: tuple[int, ...], axes: tuple[int, ...], keepdim: bool = True) -> tuple[int, ...]:
    return tuple(1 if i in axes else size for i, size in enumerate(shape) if keepdim or i not in axes)


def _reduced(op: str, call: Call) -> Node:
    attrs = {"axes": _axes(call, call.arg(1, "dim")), "keepdim": bool(call.arg(2, "keepdim", False))}
    return Node(name="", op=op, inputs=(call.value(),), attrs=attrs)


def _extreme(op: str, call: Call, part: int) -> Node:
    if part != 0:
        raise ValueError("gives the index of an extreme, which no level is")
    return _reduced(op, call)


def _norm(call: Call) -> Node:
    """``√Σx²``: a table of squares, a sum, a table of roots."""
    if float(call.arg(1, "ord") if call.arg(1, "ord") is not None else 2.0) != 2.0:
        raise ValueError("is no Euclidean norm")
    axes, keepdim = _axes(call, call.arg(2, "dim")), bool(call.arg(3, "keepdim", False))
    squares = call.emit(replace(table(call, "power", 2.0), shape=call.input_shape()))
    attrs = {"axes": axes, "keepdim": keepdim}
    total = call.emit(Node(name="", op="sum", inputs=(squares,), attrs=attrs, shape=call.shape))
    return replace(table(call, "sqrt"), inputs=(total,))


def _variance(call: Call, root: bool = False) -> Node:
    """``Σ(x − mean)² / (n − correction)``, and perhaps its root."""
    shape, axes = call.input_shape(), _axes(call, call.arg(1, "dim"))
    unbiased = call.arg(2, "unbiased", True) if isinstance(call.arg(2, "unbiased"), bool) else True
    correction = call.kwargs.get("correction", 1 if unbiased else 0)
    count = math.prod(shape[axis] for axis in axes)
    rest = count - float(1 if correction is None else correction)
    if rest <= 0:
        raise ValueError(f"of {count} values with correction={correction} is not defined")
    keepdim = bool(call.kwargs.get("keepdim", call.arg(3, "keepdim", False)))
    kept = Node(name="", op="mean", inputs=(call.value(),), attrs={"axes": axes, "keepdim": True})
    mean = call.emit(replace(kept, shape=_without(shape, axes)))
    apart = call.emit(Node(name="", op="subtract", inputs=(call.value(), mean), shape=shape))
    squares = call.emit(
        Node(name="", op="table", inputs=(apart,), attrs={"steps": (("power", 2.0),)}, shape=shape)
    )
    total = Node(name="", op="mean", inputs=(squares,), attrs={"axes": axes, "keepdim": keepdim})
    steps: tuple[tuple[Any, ...], ...] = (("affine", count / rest, 0.0),)
    steps += (("sqrt",),) if root else ()
    return Node(
        name="", op="table", inputs=(call.emit(replace(total, shape=call.shape)),), attrs={"steps": steps}
    )


def _rms_norm(call: Call) -> Node | str:
    count, eps, weight = len(call.args[1]), call.arg(3, "eps"), call.arg(2, "weight")
    if weight is not None and not isinstance(weight, Param):
        raise ValueError("its weight is computed; use a parameter")
    if weight is not None and count > 1:
        weight = call.derived(weight, weight.tensor.flatten())
    chain = Chain.over(call)
    chain.reshape((*call.shape[:-count], math.prod(call.shape[-count:])))
    attrs = {"axis": len(chain.shape) - 1, "eps": 1.1920928955078125e-07 if eps is None else float(eps)}
    chain.then("rms_norm", chain.shape, params=params(gamma=weight), **attrs)
    return chain.reshape(call.shape).result()


def _grouped(call: Call, groups: int, weight: Any, bias: Any, eps: float) -> Node:
    if size_of(call.shape, groups) > MAX_SIZE:
        raise ValueError(
            f"normalizes {size_of(call.shape, groups)} values together; the kernel takes up to {MAX_SIZE}"
        )
    attrs = {"groups": groups, "eps": eps}
    roles = params(gamma=weight, beta=bias)
    return Node(name="", op="group_norm", inputs=(call.value(),), attrs=attrs, params=roles)


def _group_norm(call: Call) -> Node:
    eps = float(call.arg(4, "eps", 1e-5))
    return _grouped(call, int(call.args[1]), call.arg(2, "weight"), call.arg(3, "bias"), eps)


def _instance_norm(call: Call) -> Node:
    weight, bias = call.args[1:3]
    if not call.arg(5, "use_input_stats"):
        raise ValueError("has running statistics; use BatchNorm, which computes the same")
    return _grouped(call, call.shape[0], weight, bias, float(call.arg(7, "eps")))


def _glu(call: Call) -> Node:
    """``a · sigmoid(b)``, a and b the halves along a dimension."""
    shape, axis = call.input_shape(), call.axis(call.arg(1, "dim", -1))
    half = shape[axis] // 2
    names = []
    for first in (0, half):
        starts = tuple(first if i == axis else 0 for i in range(len(shape)))
        ends = tuple(first + half if i == axis else size for i, size in enumerate(shape))
        attrs = {"starts": starts, "ends": ends, "steps": (1,) * len(shape)}
        names.append(
            call.emit(Node(name="", op="slice", inputs=(call.value(),), attrs=attrs, shape=call.shape))
        )
    steps = (("sigmoid",),)
    gate = Node(name="", op="table", inputs=(names[1],), attrs={"steps": steps}, shape=call.shape)
    return Node(name="", op="multiply", inputs=(names[0], call.emit(gate)), attrs={"scale": 1.0})


REDUCTIONS: Mapping[str, Translation] = {
    **{name: partial(_reduced, name) for name in ("sum", "amax", "amin")},
    "linalg_vector_norm": _norm,
    "linalg_norm": _norm,
    "norm": _norm,
    "var": _variance,
    "std": partial(_variance, root=True),
    "rms_norm": _rms_norm,
    "_fused_rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "glu": _glu,
}

EXTREMES: Mapping[str, Callable[[Call, int], Node]] = {
    "max": partial(_extreme, "amax"),
    "min": partial(_extreme, "amin"),
}
"""Extremes and where they lie, of which only the first has levels."""
