"""What handlers share: operands as values, constants as values, windows, requantization."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.quantized.finishing import offset
from stages.importers.onnx_file.quantized.graph import Quantized
from stages.importers.onnx_file.quantized.states import (
    BuiltOp,
    KnownValues,
    Pending,
    Real,
    Scale,
    State,
    ValueDraft,
    Weight,
)
from stages.importers.onnx_file.reading import OnnxNode
from stages.importers.onnx_file.tensors import Array
from stages.integer.program import Value
from stages.integer.ratios import rescaling


def value_of(state: State, what: str = "an operand") -> ValueDraft:
    """The value whose reals an operand is. Raises ValueError for anything else."""
    if isinstance(state, Real) and state.factor == 1.0:
        return state.value
    if isinstance(state, Pending):
        raise ValueError(f"reads the result of {state.source}, which is not quantized. Remedy: quantize it")
    raise ValueError(f"{what} is not quantized. Remedy: quantize it, or import the float network")


def real_of(x: Weight | Array) -> Array:
    """A constant as float32."""
    return x.real if isinstance(x, Weight) else x


def as_value(own: Quantized, node: OnnxNode, state: State, place: int) -> ValueDraft:
    """An operand as a value; of a quantized constant, one that gives it for each sample."""
    if not isinstance(state, Weight) or state.scale.size > 1:
        return value_of(state)
    if state.levels.dtype not in (np.int8, np.uint8):
        raise ValueError(f"adds or multiplies a constant of {state.levels.dtype}")
    rank = max(len(own.shape(name)) for i, name in enumerate(node.inputs) if i != place)
    levels = state.levels
    levels = levels[0] if levels.ndim == rank + 1 and levels.shape[0] == 1 else levels
    levels = levels.reshape((1,) * (rank - levels.ndim) + levels.shape)
    return constant(
        own,
        f"{node.inputs[place]}",
        levels,
        Scale(float(state.scale[0]), int(state.zero_point[0])),
        str(node),
    )


def constant(own: Quantized, name: str, levels: Array, scale: Scale, source: str) -> ValueDraft:
    """A value that is the same for each sample: levels as stored, of one sample."""
    if own.input is None:
        raise ValueError("reads constants before the input is quantized")
    value = own.draft(name, levels.shape, levels.dtype, scale)

    def build(pending: Pending, known: KnownValues, y: Value) -> BuiltOp:
        stored = levels.astype(np.int16) - offset(value, y.quant_min)
        return {}, {"levels": np.ascontiguousarray(stored.astype(y.dtype))}

    return own.emit(Pending("constant", (own.input,), value.shape, build, source=source), value)


def requantized(x: Real, source: str) -> Pending:
    """A value in other steps."""

    def build(pending: Pending, known: KnownValues, y: Value) -> BuiltOp:
        return {}, rescaling(np.asarray(known[x.value.name].scale * pending.factor / y.scale))

    return Pending("requantize", (x.value,), x.value.shape, build, factor=x.factor, source=source)


def numbers(own: Quantized, node: OnnxNode, name: str, place: int) -> list[int] | None:
    """Whole numbers, an attribute in older versions and an operand in newer ones."""
    if (value := node.attrs.get(name)) is not None:
        return [int(n) for n in (value if isinstance(value, list) else [value])]
    array = own.array(node, place, name)
    return None if array is None else [int(n) for n in array.reshape(-1)]


def axis_of(axis: int, x: ValueDraft) -> int:
    """A dimension of a sample. Raises ValueError for the batch's."""
    own = reading.axis_of(int(axis), len(x.shape) + 1) - 1
    if own < 0:
        raise ValueError("takes apart or mixes the samples of a batch")
    return own


def reduced(own: Quantized, node: OnnxNode, x: ValueDraft) -> tuple[int, ...]:
    """The dimensions of a sample that a node reduces."""
    given = node.attrs.get("axes") or (None if (a := own.array(node, 1, "axes")) is None else a.tolist())
    if not given:
        raise ValueError("reduces all dimensions, samples too")
    axes = tuple(sorted(reading.axis_of(int(axis), len(x.shape) + 1) - 1 for axis in given))
    if axes[0] < 0:
        raise ValueError("mixes the samples of a batch")
    return axes


def window(node: OnnxNode, x: ValueDraft, kernel: Any) -> tuple[list[int], list[int], list[int], list[int]]:
    """Strides, dilations, padding before and after."""
    module: Any = SimpleNamespace(attr=lambda name, default=None: node.attrs.get(name, default))
    image: Any = SimpleNamespace(ndim=len(x.shape) + 1, shape=(1, *x.shape))
    return reading.window(module, image, list(kernel))


def padded(
    own: Quantized,
    node: OnnxNode,
    x: ValueDraft,
    before: list[int],
    after: list[int],
    fits: list[int] | None = None,
) -> tuple[ValueDraft, tuple[int, int]]:
    """The value and its symmetric padding; zeros around it where the padding is not symmetric."""
    small = fits is None or all(2 * b <= k for b, k in zip(before, fits, strict=True))
    if before == after and small:
        return x, (before[0], before[1])
    pads = ((0, 0), *zip(before, after, strict=True))
    shape = [n + b + a for n, (b, a) in zip(x.shape, pads, strict=True)]
    value = own.draft(f"{node.outputs[0]}/padded", shape, x.dtype, x.own)
    pending = Pending("pad", (x,), value.shape, lambda *_: ({}, {}), {"pads": pads}, source=str(node))
    return own.emit(pending, value), (0, 0)
