"""Tensors of an ONNX file as numpy arrays; sizes are checked against the bytes that are there before use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

Array = NDArray[Any]

BITS: Mapping[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.DOUBLE: 64,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT16: 16,
    TensorProto.UINT16: 16,
    TensorProto.INT32: 32,
    TensorProto.UINT32: 32,
    TensorProto.INT64: 64,
    TensorProto.UINT64: 64,
    TensorProto.BOOL: 8,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
}
"""Bits of an element of each type that is read."""

_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def to_array(tensor: onnx.TensorProto, folder: Path) -> Array:
    """A tensor as an array: floats of any width as float32, 4 bits as int8 or uint8.

    Args:
        tensor: of the file.
        folder: that the file lies in, in which alone external data may lie.

    Raises:
        ValueError: a type that is not read, dimensions that the data does not fill, data outside the folder.
    """
    where = f"tensor '{tensor.name}'"
    if tensor.data_type not in BITS:
        kinds = onnx.TensorProto.DataType
        known = tensor.data_type in kinds.values()
        kind = kinds.Name(tensor.data_type) if known else str(tensor.data_type)
        raise ValueError(f"{where}: holds {kind}, which is not read. Remedy: floats or integers")
    if any(size < 0 for size in tensor.dims):
        raise ValueError(f"{where}: dimensions {list(tensor.dims)} must not be negative; the file is damaged")
    count = math.prod(tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL:
        tensor = _with_external(tensor, folder, _bytes(count, tensor.data_type), where)
    if tensor.HasField("raw_data"):
        given, wanted = len(tensor.raw_data), _bytes(count, tensor.data_type)
    else:
        given = sum(len(getattr(tensor, name)) for name in _FIELDS)
        wanted = count if BITS[tensor.data_type] >= 8 else -(-count * BITS[tensor.data_type] // 8)
    if given != wanted:
        raise ValueError(
            f"{where}: dimensions {list(tensor.dims)} need {wanted} of what it holds {given}; "
            "the file is damaged"
        )
    array: Array = numpy_helper.to_array(tensor)
    if BITS[tensor.data_type] == 4:
        return array.astype(np.int8 if tensor.data_type == TensorProto.INT4 else np.uint8)
    floating = tensor.data_type in (TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
    return np.array(array, np.float32 if floating else array.dtype)


def _bytes(count: int, kind: int) -> int:
    return -(-count * BITS[kind] // 8)


def _with_external(tensor: onnx.TensorProto, folder: Path, size: int, where: str) -> onnx.TensorProto:
    """The tensor with the data of its file, of which no byte outside the folder is read."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    path = folder / location
    outside = Path(location).is_absolute() or ".." in Path(location.replace("\\", "/")).parts
    if not location or outside or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"{where}: its data lies in '{location}', and only files in the model's folder are read. "
            "Remedy: onnx.save(model, path) with all tensors inside"
        )
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size))
    except ValueError as error:
        raise ValueError(f"{where}: offset and length of its data are no numbers ({error})") from error
    if length != size or offset < 0:
        raise ValueError(
            f"{where}: {length} bytes from {offset} on in '{location}', where its dimensions need {size}; "
            "the file is damaged"
        )
    if not path.is_file() or path.stat().st_size < offset + length:
        raise ValueError(
            f"{where}: no {length} bytes from {offset} on in {path}. Remedy: copy the file of the data "
            "beside the model, whole"
        )
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    own = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, raw_data=data)
    return own


def external_files(model: onnx.ModelProto, folder: Path) -> list[Path]:
    """The files beside the model that its initializers lie in, in order of their names."""
    entries = [entry for tensor in model.graph.initializer for entry in tensor.external_data]
    return sorted({folder / entry.value for entry in entries if entry.key == "location"})
