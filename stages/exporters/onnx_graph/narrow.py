"""Tensors of 4 and 2 bits in ONNX: INT4 and UINT4 since opset 21, INT2 and UINT2 since opset 25.

Elements are packed from the lowest bits of a byte on, in the order of the tensor; the last byte is filled
with zeros (ONNX's ``onnx.proto``, `TensorProto.raw_data`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

NARROW_SINCE = {4: 21, 2: 25}
"""By bits, the first opset whose DequantizeLinear takes them."""


def narrow_bits(opset: int) -> tuple[int, ...]:
    """The widths below 8 that tensors of an opset may have."""
    return tuple(bits for bits, since in NARROW_SINCE.items() if opset >= since)


def holds(bits: int, array: NDArray[Any]) -> bool:
    """Whether so many bits hold all values of an int8 or uint8 array."""
    if array.dtype not in (np.int8, np.uint8) or not array.size:
        return False
    signed = array.dtype == np.int8
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return bool(array.min() >= low and array.max() <= high)


def narrow_tensor(name: str, array: NDArray[Any], bits: int) -> onnx.TensorProto | None:
    """An int8 or uint8 array as a tensor of 4 or 2 bits; None where they do not hold its values.

    Raises:
        ValueError: the installed onnx is older than the type.
    """
    if not holds(bits, array):
        return None
    kind = f"{'' if array.dtype == np.int8 else 'U'}INT{bits}"
    if not hasattr(TensorProto, kind):
        raise ValueError(
            f"onnx {onnx.__version__} has no type {kind}. Remedy: pip install -U onnx, or "
            f"an opset below {NARROW_SINCE[bits]}"
        )
    count = 8 // bits
    fields = np.zeros(-(-array.size // count) * count, np.uint8)
    fields[: array.size] = array.ravel().view(np.uint8) & ((1 << bits) - 1)
    packed = np.bitwise_or.reduce(
        fields.reshape(-1, count) << (np.arange(count, dtype=np.uint8) * bits), axis=1
    )
    return TensorProto(
        name=name,
        dims=array.shape,
        data_type=getattr(TensorProto, kind),
        raw_data=packed.astype(np.uint8).tobytes(),
    )
