"""What transformers need: products of matrices, softmax and its masks, layer normalization."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from stages.graph.aten.call import Call, Param, Ref, Translation, params
from stages.graph.aten.chain import Chain
from stages.graph.aten.masks import excluding
from stages.graph.aten.refusal import RefusalError
from stages.graph.ir import Node
from stages.graph.masks import keeping


def _matmul(call: Call) -> Node | str:
    if isinstance(right := call.args[1], Param) and right.tensor.ndim == 2:
        weight = call.derived(right, right.tensor.T)
        return Node(name="", op="linear", inputs=(call.value(),), params=params(weight=weight))
    return product(_operand(call, 0), _operand(call, 1)).reshape(call.shape).result()


def _operand(call: Call, position: int) -> Chain:
    """An argument as a matrix, or several, of one sample: 1 where the batch is of rows or columns."""
    argument, batch = call.args[position], len(call.layout.shape) - call.layout.dim
    if isinstance(argument, Param):
        tensor = argument.tensor
        if call.layout.alone and 2 < batch <= tensor.ndim:
            tensor = tensor.squeeze(-batch)
        return Chain.constant(call, call.derived(argument, tensor))
    chain, traced = Chain.over(call, position), call.input_layout(position)
    if traced.alone and len(traced.shape) - traced.dim <= 2 < len(traced.shape):
        chain.reshape((*chain.shape[: traced.dim], 1, *chain.shape[traced.dim :]))
    return chain


def product(a: Chain, b: Chain, scale: float = 1.0) -> Chain:
    """``a b · scale`` of (…, I, K) and (…, K, J), whose other dimensions broadcast; of vectors too."""
    row, column = len(a.shape) == 1, len(b.shape) == 1
    if row:
        a.reshape((1, *a.shape))
    if column:
        b.reshape((*b.shape, 1))
    rank = max(len(a.shape), len(b.shape))
    for side in (a, b):
        side.reshape((*[1] * (rank - len(side.shape)), *side.shape))
    lead = broadcast(a.shape[:-2], b.shape[:-2])
    *_, rows, _ = a.shape
    columns = b.shape[-1]
    other = b.name  # ends the branch before that of the first operand
    a.then("matmul", (*lead, rows, columns), other, scale=scale)
    kept = (*lead, *(() if row else (rows,)), *(() if column else (columns,)))
    return a.reshape(kept)


def broadcast(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """The shape of what two shapes broadcast to. Raises ValueError where they do not."""
    rank = max(len(a), len(b))
    pairs = zip((*[1] * (rank - len(a)), *a), (*[1] * (rank - len(b)), *b), strict=True)
    shape = []
    for m, n in pairs:
        if m != n and 1 not in (m, n):
            raise ValueError(f"shapes {tuple(a)} and {tuple(b)} do not broadcast")
        shape.append(n if m == 1 else m)
    return tuple(shape)


def _baddbmm(call: Call) -> Node | str:
    """``beta · x + alpha · (a b)``; addmm likewise."""
    alpha, beta = (float(call.kwargs.get(name, 1)) for name in ("alpha", "beta"))
    added, right = call.args[0], call.args[2]
    if (
        isinstance(added, Param)
        and isinstance(right, Param)
        and right.tensor.ndim == 2
        and added.tensor.ndim < 2
    ):
        weight = call.derived(right, right.tensor.T * alpha)
        bias = call.derived(added, (added.tensor * beta).expand(len(weight.tensor)))
        return Node(name="", op="linear", inputs=(call.value(1),), params=params(weight=weight, bias=bias))
    if alpha <= 0.0:
        raise ValueError(f"alpha={alpha:g}: only a positive factor has an integer form")
    chain = product(_operand(call, 1), _operand(call, 2), alpha).reshape(call.shape)
    if beta == 0.0:
        return chain.result()
    if isinstance(added, Param):
        other = Chain(
            call, call.emit(call.constant(call.derived(added, added.tensor * beta), call.shape)), call.shape
        )
    else:
        other = Chain.over(call).expand(call.shape)
        if beta != 1.0:
            other.then("table", other.shape, steps=(("affine", beta, 0.0),))
    return chain.then("add", call.shape, other.name).result()


def _einsum(call: Call) -> Node | str:
    """Two operands: labels of both are of a batch of products or summed, the others are of one side."""
    equation, operands = str(call.args[0]).replace(" ", ""), call.args[1]
    if len(operands) != 2 or "." in equation or "->" not in equation:
        raise ValueError(f"einsum '{equation}': only two operands, all labels written, have an integer form")
    inputs, _, out = equation.partition("->")
    labels = inputs.split(",")
    batch = out[call.layout.dim]
    sides: list[tuple[Chain, str]] = []
    for item, own in zip(operands, labels, strict=True):
        if len(set(own)) != len(own):
            raise ValueError(f"einsum '{equation}': takes a diagonal")
        if isinstance(item, Ref):
            if own[item.layout.dim] != batch or item.layout.outer != call.layout.outer:
                raise ValueError(f"einsum '{equation}': the batch '{batch}' has another label")
            sides.append((Chain(call, item.name, item.layout.sample), _labels(own, call, batch)))
        elif batch in own:
            raise ValueError(f"einsum '{equation}': a constant has the label of the batch, '{batch}'")
        else:
            sides.append((Chain.constant(call, item), own))
    return contracted(sides[0], sides[1], _labels(out, call, batch), equation).result()


def _labels(labels: str, call: Call, batch: str) -> str:
    """The labels of a sample: the batch's is there where windows, or heads, are merged with it."""
    return labels.replace(batch, "") if call.layout.alone else labels


def contracted(left: tuple[Chain, str], right: tuple[Chain, str], out: str, equation: str) -> Chain:
    """An einsum of two values by the labels of their samples: a product of matrices between permutations."""
    (a, first), (b, second) = left, right
    sizes = dict(zip(first, a.shape, strict=True)) | dict(zip(second, b.shape, strict=True))
    both = [label for label in first if label in second and label in out]
    summed = [label for label in first if label in second and label not in out]
    rows = [label for label in first if label not in second]
    columns = [label for label in second if label not in first]
    if not set(rows + columns) <= set(out):
        raise ValueError(f"einsum '{equation}': sums over a label of one operand alone")
    i, k, j = (math.prod(sizes[label] for label in group) for group in (rows, summed, columns))
    lead = [sizes[label] for label in both]
    a.permute([first.index(label) for label in (*both, *rows, *summed)]).reshape((*lead, i, k))
    b.permute([second.index(label) for label in (*both, *summed, *columns)]).reshape((*lead, k, j))
    found = [*both, *rows, *columns]
    chain = product(a, b).reshape([sizes[label] for label in found])
    return chain.permute([found.index(label) for label in out])


def _softmax(call: Call) -> Node:
    axis = call.axis(call.arg(1, "dim"))
    return Node(name="", op="softmax", inputs=(call.value(),), attrs={"axis": axis})


def _attention(call: Call) -> Node | str:
    """``softmax(q kᵀ · scale + mask) v``; the groups of queries that share a key are rows of one product."""
    if p := call.arg(4, "dropout_p", 0.0):
        raise RefusalError(f"drops values in evaluation too; write dropout_p={p:g} if self.training else 0.0")
    q, k, v = (_operand(call, i) for i in range(3))
    shape = q.shape
    if not min(len(side.shape) for side in (q, k, v)) >= 2:
        raise ValueError(f"attends over {q.shape}, {k.shape}, {v.shape}; they must be (…, positions, size)")
    scale = call.kwargs.get("scale")
    scale = 1.0 / math.sqrt(shape[-1]) if scale is None else float(scale)
    shares = bool(call.kwargs.get("enable_gqa")) and len(shape) > 2
    scores = (*(shape[:-2] if shares else broadcast(shape[:-2], k.shape[:-2])), shape[-2], k.shape[-2])
    if shares:
        q.reshape((*shape[:-3], k.shape[-3], shape[-3] // k.shape[-3] * shape[-2], shape[-1]))
    k.permute((*range(len(k.shape) - 2), len(k.shape) - 1, len(k.shape) - 2))
    weights = product(q, k, scale)
    grouped = weights.shape
    weights.reshape(scores)
    keep = _masked(call, weights)
    weights.then("softmax", scores, *keep, axis=len(scores) - 1).reshape(grouped)
    return product(weights, v).reshape(call.shape).result()


def _masked(call: Call, scores: Chain) -> tuple[str, ...]:
    """Add to scores what a mask adds; returns the name of what it keeps, where it leaves something out."""
    mask = call.arg(3, "attn_mask")
    keep: Tensor | None = None
    if call.arg(5, "is_causal", False):
        keep = torch.ones(scores.shape[-2:]).tril()
    if isinstance(mask, Ref):
        added = Chain(call, mask.name, mask.layout.sample)
        added.reshape((*[1] * (len(scores.shape) - len(added.shape)), *added.shape))
        if mask.dtype == torch.bool:
            return (added.name,)
        scores.then("add", scores.shape, added.name)
    elif isinstance(mask, Param):
        own, bias = keeping(mask.tensor)
        if bias is not None:
            other = call.emit(call.constant(call.derived(mask, bias), scores.shape))
            scores.then("add", scores.shape, other)
        keep = own if keep is None else keep if own is None else keep * own
    if keep is None:
        return ()
    return (excluding(call, keep, scores.shape),)


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
    "baddbmm": _baddbmm,
    "addmm": _baddbmm,
    "einsum": _einsum,
    "softmax": _softmax,
    "_softmax": _softmax,
    "scaled_dot_product_attention": _attention,
    "layer_norm": _layer_norm,
}
