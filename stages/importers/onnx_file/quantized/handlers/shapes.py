"""What moves levels: shapes, dimensions, padding, pools of extremes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.quantized.graph import Handler, Quantized
from stages.importers.onnx_file.quantized.operands import (
    axis_of,
    numbers,
)
from stages.importers.onnx_file.quantized.states import (
    Input,
    Pending,
    Real,
    State,
    StoredLevels,
    ValueDraft,
    Weight,
)
from stages.importers.onnx_file.reading import OnnxNode

Move = Callable[[Quantized, OnnxNode, ValueDraft], ValueDraft | list[ValueDraft]]


def moving(move: Move) -> Callable[[Quantized, OnnxNode], Any]:
    """A handler that moves the levels of its operand, and gives what the operand is: levels, or reals."""

    def handle(own: Quantized, node: OnnxNode) -> Any:
        state = own.state(node, 0)
        if isinstance(state, Pending):
            raise ValueError(
                f"reads the result of {state.source}, which is not quantized. Remedy: quantize it"
            )
        if isinstance(state, Input):
            raise ValueError("moves the input before it is quantized. Remedy: quantize the input itself")
        if not isinstance(state, StoredLevels | Real):
            raise ValueError("reads what are neither levels nor quantized reals")
        moved = move(own, node, state.value)
        kept = [
            StoredLevels(m) if isinstance(state, StoredLevels) else Real(m, state.factor)
            for m in _listed(moved)
        ]
        return kept if isinstance(moved, list) else kept[0]

    return handle


def _listed(moved: ValueDraft | list[ValueDraft]) -> list[ValueDraft]:
    return moved if isinstance(moved, list) else [moved]


def reshaped(own: Quantized, node: OnnxNode, x: ValueDraft, shape: tuple[int, ...]) -> ValueDraft:
    """The value in another shape of a sample."""
    return x if shape == x.shape else own.moved(node, x, "reshape", shape, shape=shape)


def _reshape(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    sizes = numbers(own, node, "shape", 1)
    if not sizes:
        raise ValueError("has no shape")
    whole = (own.batch, *x.shape)
    if not node.attrs.get("allowzero", 0):
        if any(n == 0 and i >= len(whole) for i, n in enumerate(sizes)):
            raise ValueError(f"shape={sizes} keeps a size that there is not")
        sizes = [whole[i] if n == 0 else n for i, n in enumerate(sizes)]
    known = math.prod(n for n in sizes if n != -1)
    count = math.prod(whole)
    if sizes.count(-1) > 1 or min(sizes) < -1 or (-1 in sizes and (known == 0 or count % known)):
        raise ValueError(f"shape={sizes} of {count} values")
    sizes = [count // known if n == -1 else n for n in sizes]
    if sizes[0] != own.batch or math.prod(sizes) != count:
        raise ValueError(f"shape={sizes} of {list(whole)}: the samples of the batch must stay apart")
    return reshaped(own, node, x, tuple(sizes[1:]))


def _flatten(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    axis = node.attrs.get("axis", 1)
    if axis not in (1, -len(x.shape)):
        raise ValueError(f"axis={axis}: must be 1")
    return reshaped(own, node, x, (math.prod(x.shape),))


def _squeeze(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    axes = numbers(own, node, "axes", 1)
    places = {axis_of(a, x) for a in axes} if axes else {i for i, n in enumerate(x.shape) if n == 1}
    if any(x.shape[i] != 1 for i in places):
        raise ValueError(f"axes={axes} of {list(x.shape)}: must have one entry")
    return reshaped(own, node, x, tuple(n for i, n in enumerate(x.shape) if i not in places))


def _unsqueeze(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    axes = numbers(own, node, "axes", 1) or []
    rank = len(x.shape) + 1 + len(axes)
    sizes = [own.batch, *x.shape]
    for axis in sorted(reading.axis_of(a, rank) for a in axes):
        sizes.insert(axis, 1)
    if sizes[0] != own.batch:
        raise ValueError("puts a dimension before the batch")
    return reshaped(own, node, x, tuple(sizes[1:]))


def _transpose(own: Quantized, node: OnnxNode) -> State:
    state = own.state(node, 0)
    if isinstance(state, Weight):
        order = node.attrs.get("perm") or list(reversed(range(state.levels.ndim)))
        axis = order.index(state.axis) if state.scale.size > 1 else 0
        return Weight(state.levels.transpose(order), state.scale, state.zero_point, axis)
    result: State = moving(_permute)(own, node)
    return result


def _permute(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    order = node.attrs.get("perm") or list(reversed(range(len(x.shape) + 1)))
    if sorted(order) != list(range(len(x.shape) + 1)) or order[0] != 0:
        raise ValueError(f"perm={order}: must keep the batch first")
    axes = tuple(i - 1 for i in order[1:])
    return own.moved(node, x, "permute", [x.shape[i] for i in axes], axes=axes)


def _depth_to_space(own: Quantized, node: OnnxNode, x: ValueDraft) -> ValueDraft:
    block, (c, h, w) = node.attrs.get("blocksize", 1), x.shape
    crd = node.attrs.get("mode", "DCR") == "CRD"
    apart = (c // block**2, block, block, h, w) if crd else (block, block, c // block**2, h, w)
    order = (0, 3, 1, 4, 2) if crd else (2, 3, 0, 4, 1)
    y = reshaped(own, node, x, apart)
    y = own.moved(node, y, "permute", [apart[i] for i in order], axes=order)
    return reshaped(own, node, y, (c // block**2, h * block, w * block))


def _same(own: Quantized, node: OnnxNode) -> State:
    return own.state(node, 0)


HANDLERS: Mapping[str, Handler] = {
    "Reshape": moving(_reshape),
    "Flatten": moving(_flatten),
    "Squeeze": moving(_squeeze),
    "Unsqueeze": moving(_unsqueeze),
    "Transpose": _transpose,
    "Identity": _same,
    "Dropout": _same,
    "DepthToSpace": moving(_depth_to_space),
}
