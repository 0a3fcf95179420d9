"""QuantizeLinear, DequantizeLinear and what bounds levels or turns them into places of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stages.importers.onnx_file.quantized.decompose import BIAS
from stages.importers.onnx_file.quantized.finishing import INT8, UINT8, clamps
from stages.importers.onnx_file.quantized.graph import Handler, Quantized
from stages.importers.onnx_file.quantized.handlers.functions import bounded
from stages.importers.onnx_file.quantized.operands import (
    requantized,
)
from stages.importers.onnx_file.quantized.states import (
    Index,
    Input,
    Pending,
    Real,
    Scale,
    State,
    StoredLevels,
    ValueFunction,
    Weight,
)
from stages.importers.onnx_file.reading import OnnxNode
from stages.importers.onnx_file.tensors import Array
from stages.integer.program import Value


def _quantize(own: Quantized, node: OnnxNode) -> State:
    """A value of the program, of what waits for its scale."""
    scale, zero, dtype = _parameters(own, node)
    state = own.state(node, 0)
    if isinstance(state, np.ndarray | Weight):
        raise ValueError("quantizes a constant by a scale that is computed")
    if isinstance(state, Real) and state.factor == 1.0:
        x = state.value
        if (x.own.scale, x.own.zero_point, x.dtype) == (scale, zero, dtype):
            return StoredLevels(x)
    output = node.outputs[0]
    if isinstance(state, Input):
        if own.input is not None and (own.input.own.scale, own.input.own.zero_point) != (scale, zero):
            raise ValueError("the input is quantized twice, by several scales. Remedy: one QuantizeLinear")
        own.input = own.input or own.draft(output, state.shape, dtype, Scale(scale, zero))
        return StoredLevels(own.input)
    if isinstance(state, Real):
        state = requantized(state, str(node))
    if isinstance(state, ValueFunction):
        state = _table(state, str(node))
    if not isinstance(state, Pending):
        raise ValueError("quantizes what are levels already; the file is damaged")
    value = own.draft(output, state.shape, dtype, Scale(scale, zero))
    return StoredLevels(own.emit(state, value))


def _dequantize(own: Quantized, node: OnnxNode) -> State:
    """The reals of levels; of a constant, its levels with their scale."""
    state = own.state(node, 0)
    if isinstance(state, Weight):
        raise ValueError("dequantizes what is dequantized already; the file is damaged")
    if isinstance(state, np.ndarray):
        return _weight(own, node, state)
    scale, zero, _ = _parameters(own, node)
    if not isinstance(state, StoredLevels):
        raise ValueError("dequantizes what are no levels; the file is damaged")
    x = state.value.own
    if x.scale is None:
        x.scale, x.zero_point = scale, zero
    if (x.scale, x.zero_point) != (scale, zero):
        raise ValueError(
            f"dequantizes by scale {scale:.6g} and zero point {zero} what was quantized by {x.scale:.6g} and "
            f"{x.zero_point}. Remedy: one scale a tensor"
        )
    return Real(state.value)


def _weight(own: Quantized, node: OnnxNode, levels: Array) -> Weight:
    scale, zero = own.array(node, 1, "the scale"), own.array(node, 2, "the zero point")
    if scale is None or levels.dtype.kind not in "iu":
        raise ValueError("a constant without scale, or that holds no levels; the file is damaged")
    if node.attrs.get("block_size"):
        raise ValueError("weights have scales of blocks. Remedy: scales of channels, or the float network")
    axis = int(node.attrs.get("axis", 1))
    zero = np.zeros(scale.shape, np.int32) if zero is None else zero.astype(np.int32)
    axis = axis + levels.ndim if axis < 0 else axis
    if scale.size > 1 and (not 0 <= axis < levels.ndim or levels.shape[axis] != scale.size):
        raise ValueError(f"{scale.size} scales along axis {axis} of {list(levels.shape)}")
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError("scales must be positive and finite")
    zeros = np.broadcast_to(zero.reshape(-1), scale.size) if zero.size == 1 else zero.reshape(-1)
    if zeros.size != scale.size:
        raise ValueError(f"{scale.size} scales and {zero.size} zero points")
    return Weight(levels, scale.reshape(-1).astype(np.float32), zeros.astype(np.int32), axis)


def _bias(own: Quantized, node: OnnxNode) -> Weight:
    """Levels of a QOperator's bias: their scale is the product of those of input and weight."""
    levels, x, weight = (own.array(node, i, "the bias") for i in range(3))
    if levels is None or x is None or weight is None or levels.dtype != np.int32:
        raise ValueError("the bias must be int32, with constant scales")
    scale = (x.reshape(-1).astype(np.float64) * weight.reshape(-1)).astype(np.float32)
    return Weight(levels, scale, np.zeros(scale.size, np.int32), 0)


def _parameters(own: Quantized, node: OnnxNode) -> tuple[float, int, np.dtype[Any]]:
    """Scale, zero point and type of a value, which has one of each."""
    scale, zero = own.array(node, 1, "the scale"), own.array(node, 2, "the zero point")
    if scale is None or scale.size != 1:
        raise ValueError(
            f"{0 if scale is None else scale.size} scales of a value that is computed: must be one. "
            "Remedy: quantize activations per tensor"
        )
    kinds: dict[int, np.dtype[Any]] = {2: UINT8, 3: INT8, 4: np.dtype(np.uint16), 5: np.dtype(np.int16)}
    given = np.dtype(np.uint8) if zero is None else zero.dtype
    dtype = kinds.get(node.attrs.get("output_dtype", 0), given) if node.op == "QuantizeLinear" else given
    number = float(scale.reshape(-1)[0])
    if dtype not in kinds.values() and not (node.op == "DequantizeLinear" and dtype == np.int32):
        raise ValueError(f"levels are {dtype}: 8 and 16 bits are read. Remedy: quantize to 8 bits")
    if not (np.isfinite(number) and number > 0):
        raise ValueError(f"scale {number}: must be positive and finite")
    return number, 0 if zero is None else int(zero.reshape(-1)[0]), dtype


def _table(state: ValueFunction, source: str) -> Pending:
    """A function of one value as a table, of 256 levels or of as many a channel."""
    x = state.value
    if x.dtype.itemsize > 1:
        raise ValueError(f"a function of levels of {x.dtype}: tables have 256. Remedy: quantize it to 8 bits")
    reals = np.zeros((256, *[1] * len(x.shape)), np.float32)
    shape = np.shape(state.apply(reals))
    wide = [i for i, n in enumerate(shape[1:]) if n != 1]
    if len(shape) != reals.ndim or len(wide) > 1 or any(shape[1 + i] != x.shape[i] for i in wide):
        raise ValueError(
            f"a function whose constants have shape {list(shape[1:])} beside values of {list(x.shape)} "
            "has no form in tables. Remedy: constants that are one number, or one a channel"
        )

    def build(
        pending: Pending, values: Mapping[str, Value], y: Value
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        value = values[x.name]
        first = -128 if value.quant_min < 0 else 0
        levels = np.arange(first, first + 256).clip(value.quant_min, value.quant_max)
        real = (levels - value.zero_point).astype(np.float32) * np.float32(value.scale)
        with np.errstate(all="ignore"):
            given = state.apply(real.reshape(reals.shape)).astype(np.float32)
            rounded = np.rint(np.nan_to_num(given) / np.float32(y.scale)) + y.zero_point
        table = rounded.clip(y.quant_min, y.quant_max).astype(y.dtype)
        if not wide:
            return {}, {"table": table.reshape(256)}
        return {"axis": wide[0]}, {"table": np.ascontiguousarray(table.reshape(256, -1).T)}

    return Pending("channel_table" if wide else "table", (x,), x.shape, build, source=source)


def _clip(own: Quantized, node: OnnxNode) -> State:
    """Bounds: of levels, those of the operator that gives them."""
    state = own.state(node, 0)
    bounds = [node.attrs.get("min"), node.attrs.get("max")]
    for i in (1, 2):
        if (given := own.array(node, i, "a bound")) is not None:
            bounds[i - 1] = given.reshape(-1)[0]
    if not isinstance(state, StoredLevels):
        low, high = (None if b is None else float(b) for b in bounds)
        return bounded(own, state, low, high, node)
    x = state.value
    info = np.iinfo(x.dtype)
    low = info.min if bounds[0] is None else max(int(bounds[0]), info.min)
    high = info.max if bounds[1] is None else min(int(bounds[1]), info.max)
    if low > high:
        raise ValueError(f"bounds {low}..{high}: must ascend")
    if x is own.input and own.reads[node.inputs[0]] == 1:
        return state  # whose levels the file's own account bounds; else the program takes all
    op = own.ops.get(x.name)
    if op is not None and own.reads[node.inputs[0]] == 1 and clamps(op.op):
        op.low, op.high = max(op.low, low), min(op.high, high)
        return state
    value = own.draft(node.outputs[0], x.shape, x.dtype, x.own)
    return StoredLevels(own.emit(requantized(Real(x), str(node)), value, low, high))


def _cast(own: Quantized, node: OnnxNode) -> State:
    """Levels as places in a table; the input's numbers of tokens."""
    state = own.state(node, 0)
    if isinstance(state, StoredLevels):
        return Index(state.value)
    if isinstance(state, Input) and node.attrs.get("to") in (6, 7):
        own.input = own.input or own.draft(node.outputs[0], state.shape, np.dtype(np.int32), Scale(1.0, 0))
        return StoredLevels(own.input)
    if isinstance(state, Index):
        return state
    if node.attrs.get("to") in (1, 10, 11, 16):
        return state
    raise ValueError("casts what are no levels")


HANDLERS: Mapping[str, Handler] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    BIAS: _bias,
    "Clip": _clip,
    "Cast": _cast,
}
