"""What transformers need: products of two values, softmax, layer normalization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from stages.graph.aten.call import PREVIOUS, Call, Param, Translation, params
from stages.graph.aten.refusal import RefusalError
from stages.graph.ir import Node


def _matmul(call: Call) -> Node:
    left = call.input_shape(0)
    if isinstance(right := call.args[1], Param):
        if right.tensor.ndim != 2:
            raise ValueError(
                f"its weight has shape {tuple(right.tensor.shape)}; only (in, out) has an integer form"
            )
        weight = call.derived(right, right.tensor.T)
        return Node(name="", op="linear", inputs=(call.value(),), params=params(weight=weight))
    if len(left) < 2 or left[:-2] != call.input_shape(1)[:-2]:
        raise ValueError(
            f"multiplies {left} by {call.input_shape(1)}; only (…, I, K) by (…, K, J) of one sample has an "
            "integer kernel"
        )
    return _product(call.value(0), call.value(1), 1.0)


def _product(left: str, right: str, scale: float, shape: tuple[int, ...] = ()) -> Node:
    return Node(name="", op="matmul", inputs=(left, right), attrs={"scale": scale}, shape=shape)


def _softmax(call: Call) -> Node:
    axis = call.axis(call.arg(1, "dim"))
    return Node(name="", op="softmax", inputs=(call.value(),), attrs={"axis": axis})


def _attention(call: Call) -> tuple[Node, ...]:
    """``softmax(q kᵀ · scale) v``."""
    if p := call.arg(4, "dropout_p", 0.0):
        raise RefusalError(f"drops values in evaluation too; write dropout_p={p:g} if self.training else 0.0")
    if call.arg(3, "attn_mask") is not None or call.arg(5, "is_causal", False):
        raise ValueError("masks have no integer form; attend to all positions")
    if call.kwargs.get("enable_gqa"):
        raise ValueError("enable_gqa has no integer form")
    q, k, v = (call.input_shape(i) for i in range(3))
    if len(q) < 2 or not q[:-2] == k[:-2] == v[:-2]:
        raise ValueError(f"attends over {q}, {k}, {v}; they must be equal but for the last two dimensions")
    scale = call.kwargs.get("scale")
    scale = 1.0 / math.sqrt(q[-1]) if scale is None else float(scale)
    rank = len(q)
    axes = (*range(rank - 2), rank - 1, rank - 2)
    transposed = Node(
        name="", op="permute", inputs=(call.value(1),), attrs={"axes": axes}, shape=(*k[:-2], k[-1], k[-2])
    )
    scores = (*q[:-1], k[-2])
    softmax = Node(name="", op="softmax", attrs={"axis": rank - 1}, shape=scores)
    return (
        transposed,
        _product(call.value(0), PREVIOUS, scale, scores),
        softmax,
        _product(PREVIOUS, call.value(2), 1.0),
    )


def _layer_norm(call: Call) -> Node | tuple[Node, ...]:
    count = len(call.args[1])
    gamma, beta = call.arg(2, "weight"), call.arg(3, "bias")
    node = Node(name="", op="layer_norm", attrs={"eps": float(call.arg(4, "eps", 1e-5))})
    if count == 1:
        return replace(node, inputs=(call.value(),), params=params(gamma=gamma, beta=beta))
    flat = (*call.shape[:-count], math.prod(call.shape[-count:]))
    roles = {"gamma": gamma, "beta": beta}
    roles = {k: call.derived(p, p.tensor.flatten()) if isinstance(p, Param) else p for k, p in roles.items()}
    return (
        Node(name="", op="reshape", inputs=(call.value(),), attrs={"shape": flat}, shape=flat),
        replace(node, params=params(**roles), shape=flat),
        Node(name="", op="reshape", attrs={"shape": call.shape}),
    )


ATTENTION: Mapping[str, Translation] = {
    "matmul": _matmul,
    "bmm": _matmul,
    "softmax": _softmax,
    "_softmax": _softmax,
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
}
