"""ATen calls in the graph's vocabulary: one small function an operator.

Each takes a `Call` and returns a `Node` (without name and shape, which capture fills in), a chain of them of
which each reads the one before, or the name of an existing value where the call changes nothing. It raises
`ValueError` with the reason and the remedy for a variant that has no integer form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import Tensor

from stages.graph.ir import Node


class Ref(NamedTuple):
    """An argument that is a value of the graph."""

    name: str


class Param(NamedTuple):
    """An argument that is a parameter or buffer: its key and its tensor."""

    key: str
    tensor: Tensor


@dataclass(frozen=True)
class Call:
    """One ATen call: arguments with values as `Ref` and parameters as `Param`; shape of one output sample."""

    overload: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    shape: tuple[int, ...]
    nodes: Mapping[str, Node]

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or keyword."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def value(self, position: int = 0) -> str:
        """The name of the value given as an argument; ValueError for a constant or parameter."""
        argument = self.args[position]
        if not isinstance(argument, Ref):
            raise ValueError("one operand is a constant; fold it into a neighbouring layer")
        return argument.name

    def input_shape(self, position: int = 0) -> tuple[int, ...]:
        """The shape of one sample of the value given as an argument."""
        name = self.value(position)
        if name not in self.nodes:
            raise ValueError("reads an unsupported operator's result")
        return self.nodes[name].shape


def _pair(value: Any) -> tuple[int, int]:
    """An int or a list of one or two, as a pair (height, width)."""
    items = tuple(value) if isinstance(value, tuple | list) else (value,)
    first = int(items[0])
    return first, int(items[-1])


def _params(**roles: Any) -> dict[str, str]:
    return {role: param.key for role, param in roles.items() if isinstance(param, Param)}


def _conv2d(call: Call) -> Node:
    weight = call.args[1]
    if not isinstance(weight, Param):
        raise ValueError("its weight is computed; only a parameter can be quantized once")
    dilation = _pair(call.arg(5, "dilation", 1))
    padding = call.arg(4, "padding", 0)
    if isinstance(padding, str):
        extent = [d * (k - 1) for d, k in zip(dilation, weight.tensor.shape[2:], strict=True)]
        if padding == "same" and any(e % 2 for e in extent):
            raise ValueError("padding='same' of an even kernel is one-sided; pad explicitly before it")
        padding = (extent[0] // 2, extent[1] // 2) if padding == "same" else 0
    return Node(
        name="",
        op="conv2d",
        inputs=(call.value(),),
        attrs={
            "stride": _pair(call.arg(3, "stride", 1)),
            "padding": _pair(padding),
            "dilation": dilation,
            "groups": int(call.arg(6, "groups", 1)),
        },
        params=_params(weight=weight, bias=call.arg(2, "bias")),
    )


def _linear(call: Call) -> Node:
    if len(call.input_shape()) != 1:
        raise ValueError(f"input of one sample has shape {call.input_shape()}; flatten to (features,) first")
    weight = call.args[1]
    if not isinstance(weight, Param):
        raise ValueError("its weight is computed; only a parameter can be quantized once")
    return Node(
        name="",
        op="linear",
        inputs=(call.value(),),
        params=_params(weight=weight, bias=call.arg(2, "bias")),
    )


def _batch_norm(call: Call) -> Node:
    _, gamma, beta, mean, variance = call.args[:5]
    if not (isinstance(mean, Param) and isinstance(variance, Param)):
        raise ValueError("has no running statistics; set track_running_stats=True")
    return Node(
        name="",
        op="batch_norm",
        inputs=(call.value(),),
        attrs={"eps": float(call.arg(7, "eps"))},
        params=_params(weight=gamma, bias=beta, running_mean=mean, running_var=variance),
    )


def _clamp_node(call: Call, low: float | None, high: float | None) -> Node:
    if (low is not None and low > 0) or (high is not None and high < 0):
        raise ValueError(f"bounds [{low}, {high}] leave out 0, which must stay representable")
    return Node(name="", op="clamp", inputs=(call.value(),), attrs={"clamp_min": low, "clamp_max": high})


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


def _add(call: Call) -> Node:
    if call.kwargs.get("alpha", 1) != 1:
        raise ValueError("alpha is not 1; scale in the layer before it")
    if not isinstance(call.args[1], Ref):
        raise ValueError("adds a constant; fold it into the bias of the layer before it")
    left, right = call.input_shape(0), call.input_shape(1)
    if left != right:
        raise ValueError(f"broadcasts {left} with {right}; only equal shapes have an integer kernel")
    return Node(name="", op="add", inputs=(call.value(0), call.value(1)))


def _cat(call: Call) -> Node:
    if any(not isinstance(item, Ref) for item in call.args[0]):
        raise ValueError("joins a constant; only values of the network can be joined")
    axis = int(call.arg(1, "dim", 0)) % (len(call.shape) + 1)
    if axis == 0:
        raise ValueError("joins along the batch dimension")
    return Node(
        name="",
        op="concat",
        inputs=tuple(item.name for item in call.args[0]),
        attrs={"axis": axis - 1},
    )


def _max_pool2d(call: Call) -> Node:
    kernel = _pair(call.args[1])
    return Node(
        name="",
        op="max_pool2d",
        inputs=(call.value(),),
        attrs={
            "kernel": kernel,
            "stride": _pair(call.arg(2, "stride") or kernel),
            "padding": _pair(call.arg(3, "padding", 0)),
            "dilation": _pair(call.arg(4, "dilation", 1)),
            "ceil_mode": bool(call.arg(5, "ceil_mode", False)),
        },
    )


def _avg_node(call: Call, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Node:
    return Node(
        name="",
        op="avg_pool2d",
        inputs=(call.value(),),
        attrs={"kernel": kernel, "stride": stride, "padding": padding},
    )


def _avg_pool2d(call: Call) -> Node:
    kernel = _pair(call.args[1])
    padding = _pair(call.arg(3, "padding", 0))
    if call.arg(4, "ceil_mode", False):
        raise ValueError("ceil_mode=True gives windows of several sizes; pad explicitly before it")
    if padding != (0, 0) and not call.arg(5, "count_include_pad", True):
        raise ValueError("count_include_pad=False gives windows of several sizes; set it to True")
    if call.arg(6, "divisor_override") is not None:
        raise ValueError("divisor_override is set; scale in the layer after it")
    return _avg_node(call, kernel, _pair(call.arg(2, "stride") or kernel), padding)


def _adaptive_avg_pool2d(call: Call) -> Node:
    size, target = call.input_shape()[-2:], call.shape[-2:]
    if any(s % t for s, t in zip(size, target, strict=True)):
        raise ValueError(
            f"from {size} to {target} has windows of several sizes; use divisors of the input size"
        )
    kernel = (size[0] // target[0], size[1] // target[1])
    return _avg_node(call, kernel, kernel, (0, 0))


def _mean(call: Call) -> Node | tuple[Node, ...]:
    shape = call.input_shape()
    axes = {int(a) % (len(shape) + 1) for a in call.arg(1, "dim") or ()}
    if len(shape) != 3 or axes != {2, 3}:
        raise ValueError(
            f"averages dimensions {sorted(axes)} of {('N', *shape)}; only (2, 3) has an integer kernel"
        )
    kernel = (shape[1], shape[2])
    pool = _avg_node(call, kernel, kernel, (0, 0))
    if call.arg(2, "keepdim", False):
        return pool
    pool = replace(pool, shape=(shape[0], 1, 1))
    return pool, Node(name="", op="reshape", attrs={"shape": call.shape})


def _reshape(call: Call) -> Node | str:
    if call.shape == call.input_shape():
        return call.value()
    return Node(name="", op="reshape", inputs=(call.value(),), attrs={"shape": call.shape})


def _pad(call: Call) -> Node | str:
    flat = [int(p) for p in call.args[1]]
    if call.kwargs.get("mode", call.arg(2, "mode", "constant")) not in ("constant", 0, 0.0):
        raise ValueError("only padding with zeros has an integer kernel")
    value = call.arg(3, "value", 0) if call.overload.startswith("pad.") else call.arg(2, "value", 0)
    if value not in (None, 0, 0.0) or min(flat, default=0) < 0:
        raise ValueError(
            f"pads {flat} with {value}; only non-negative padding with zeros has an integer kernel"
        )
    pairs = [(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)][::-1]
    rank = len(call.shape)
    if len(pairs) > rank:
        raise ValueError("pads the batch dimension")
    pads = ((0, 0),) * (rank - len(pairs)) + tuple(pairs)
    if not any(a or b for a, b in pads):
        return call.value()
    return Node(name="", op="pad", inputs=(call.value(),), attrs={"pads": pads})


def _slice(call: Call) -> Node | str:
    shape = call.input_shape()
    axis = int(call.arg(1, "dim", 0)) % (len(shape) + 1)
    start, end, step = call.arg(2, "start"), call.arg(3, "end"), call.arg(4, "step", 1)
    if axis == 0:
        if (start or 0) == 0 and (end is None or end > 2**62) and step == 1:
            return call.value()
        raise ValueError("slices the batch dimension")
    axis -= 1
    start, end, step = slice(start, end, step).indices(shape[axis])
    if (start, end, step) == (0, shape[axis], 1):
        return call.value()
    rank = range(len(shape))
    return Node(
        name="",
        op="slice",
        inputs=(call.value(),),
        attrs={
            "starts": tuple(start if i == axis else 0 for i in rank),
            "ends": tuple(end if i == axis else shape[i] for i in rank),
            "steps": tuple(step if i == axis else 1 for i in rank),
        },
    )


def _identity(call: Call) -> str:
    return call.value()


TRANSLATIONS: Mapping[str, Callable[[Call], Node | tuple[Node, ...] | str]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    "add": _add,
    "cat": _cat,
    "concat": _cat,
    "max_pool2d": _max_pool2d,
    "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "mean": _mean,
    "flatten": _reshape,
    "view": _reshape,
    "reshape": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "pad": _pad,
    "constant_pad_nd": _pad,
    "slice": _slice,
    "dropout": _identity,
    "feature_dropout": _identity,
    "contiguous": _identity,
    "clone": _identity,
    "detach": _identity,
    "alias": _identity,
}
"""ATen base name (without the in-place underscore) → translation."""
