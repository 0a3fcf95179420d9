"""Functions of torch that are written in others: ``hstack``, ``movedim``, ``narrow``, ``cosine_similarity``.

Torch says itself what such a function is made of. Traced once more, with the function taken apart, its calls
stand in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_unflatten

_WRITTEN: Mapping[str, Any] = {
    "addcmul.default": lambda x, a, b, *, value=1: x + a * b * value,
    "addcdiv.default": lambda x, a, b, *, value=1: x + a / b * value,
    "lerp.Scalar": lambda x, end, weight: x * (1 - weight) + end * weight,
    "copy.default": lambda x, source, non_blocking=False: source.to(x.dtype).expand_as(x),
    "fill.Scalar": torch.full_like,
    "fill.Tensor": lambda x, number: number.to(x.dtype).expand_as(x),
    "zero.default": torch.zeros_like,
    "lerp.Tensor": lambda x, end, weight: x * (1 - weight) + end * weight,
}
"""Functions that torch has kernels of their own for, written in others."""


def taken_apart(fx_node: torch.fx.Node, function: str) -> torch.fx.GraphModule | None:
    """What a call is made of, as a graph of the tensors among its arguments, in their order.

    Args:
        fx_node: the call, as traced.
        function: the operator of ATen, ``name.overload``, that gives a new tensor.

    Returns:
        None where the function is not written in others.
    """
    body = _body(function)
    if body is None:
        return None
    leaves, spec = tree_flatten((fx_node.args, fx_node.kwargs))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.fx.Node)]
    tensors = [leaves[i].meta.get("val") for i in places]
    if not all(isinstance(tensor, torch.Tensor) for tensor in tensors):
        return None

    def called(*given: torch.Tensor) -> Any:
        own = [*leaves]
        for place, tensor in zip(places, given, strict=True):
            own[place] = tensor
        args, kwargs = tree_unflatten(own, spec)
        return body(*args, **kwargs)

    return traced_again(called, tensors, fx_node)


def traced_again(
    function: Callable[..., Any], tensors: Sequence[Any], fx_node: torch.fx.Node
) -> torch.fx.GraphModule | None:
    """A function of tensors as a graph, in the module and with the name of a call; None where it has none."""
    try:
        with torch.no_grad():
            module: torch.fx.GraphModule = make_fx(function)(*tensors)
    except Exception:  # of many types: what cannot be traced stays whole
        return None
    calls = [inner for inner in module.graph.nodes if inner.op == "call_function"]
    for inner in calls:
        inner.meta["nn_module_stack"] = fx_node.meta.get("nn_module_stack", {})
        # names of their own, by which constants are known
        inner.name = fx_node.name if inner is calls[-1] else f"{fx_node.name}.{inner.name}"
    return module


def _body(function: str) -> Any:
    base, _, overload = function.partition(".")
    if function in _WRITTEN:
        return _WRITTEN[function]
    operator = getattr(getattr(torch.ops.aten, base, None), overload or "default", None)
    if not isinstance(operator, torch._ops.OpOverload) or operator._schema.is_mutable:
        return None
    return operator.decompose if operator._can_decompose() else None
