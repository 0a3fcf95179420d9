"""What a TFLite file says: its tensors and operators, checked. Numbers are those of TFLite's schema.fbs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.importers.tflite_file.flatbuffer import DamagedError, FlatTable
from stages.integer.limits import MAX_ELEMENTS, MAX_OPERATORS

OPERATORS: Mapping[int, str] = {
    **{0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D"},
    **{5: "DEPTH_TO_SPACE", 6: "DEQUANTIZE", 9: "FULLY_CONNECTED", 11: "L2_NORMALIZATION", 14: "LOGISTIC"},
    **{16: "LSTM", 17: "MAX_POOL_2D", 18: "MUL", 19: "RELU", 20: "RELU_N1_TO_1", 21: "RELU6", 22: "RESHAPE"},
    **{23: "RESIZE_BILINEAR", 25: "SOFTMAX", 26: "SPACE_TO_DEPTH", 27: "SVDF", 28: "TANH", 32: "CUSTOM"},
    **{34: "PAD", 36: "GATHER", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 42: "DIV", 43: "SQUEEZE"},
    **{45: "STRIDED_SLICE", 47: "EXP", 49: "SPLIT", 50: "LOG_SOFTMAX", 53: "CAST", 54: "PRELU"},
    **{55: "MAXIMUM", 56: "ARG_MAX", 57: "MINIMUM", 59: "NEG", 60: "PADV2", 65: "SLICE"},
    **{67: "TRANSPOSE_CONV", 70: "EXPAND_DIMS", 74: "SUM", 76: "RSQRT", 77: "SHAPE", 82: "REDUCE_MAX"},
    **{
        83: "PACK",
        88: "UNPACK",
        89: "REDUCE_MIN",
        97: "RESIZE_NEAREST_NEIGHBOR",
        98: "LEAKY_RELU",
        100: "MIRROR_PAD",
    },
    **{7: "EMBEDDING_LOOKUP", 8: "FLOOR", 66: "SIN", 69: "TILE", 73: "LOG", 75: "SQRT", 78: "POW"},
    **{81: "REDUCE_PROD", 92: "SQUARE", 99: "SQUARED_DIFFERENCE", 102: "SPLIT_V", 104: "CEIL", 108: "COS"},
    **{116: "ROUND", 152: "RELU_0_TO_1", 158: "SIGN"},
    **{101: "ABS", 111: "ELU", 114: "QUANTIZE", 117: "HARD_SWISH", 126: "BATCH_MATMUL", 150: "GELU"},
}
"""``BuiltinOperator`` by number."""

DTYPES: Mapping[int, str] = {
    **{0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 5: "string", 6: "bool", 7: "int16"},
    **{8: "complex64", 9: "int8", 10: "float64", 17: "int4"},
}
"""``TensorType`` by number."""

ARRAYS = ("float32", "float16", "int32", "uint8", "int64", "bool", "int16", "int8", "float64")
"""Those that numpy has."""


@dataclass(frozen=True, kw_only=True)
class TfliteTensor:
    """A tensor of the file.

    Args:
        index: its number.
        name: as the file has it.
        dtype: TFLite's name.
        shape: the batch included.
        scale: float32, one or one an entry along `axis`; empty where it is not quantized.
        zero_point: int64, as many.
        axis: the dimension that several scales go along.
        data: its contents where they are constant.
    """

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int
    data: NDArray[np.generic] | None

    def __str__(self) -> str:
        return f"tensor {self.index} '{self.name}'"


@dataclass(frozen=True, kw_only=True)
class TfliteOperator:
    """An operator: its kind, tensors by number (−1: left out), options."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: FlatTable | None

    def option(self, slot: int, code: str, default: float) -> Any:
        """An option's number, or its default."""
        return default if self.options is None else self.options.scalar(slot, code, default)

    def given(self, place: int) -> bool:
        """Whether an optional input is there."""
        return place < len(self.inputs) and self.inputs[place] >= 0


@dataclass(frozen=True, kw_only=True)
class TfliteContents:
    """The one network of a file."""

    tensors: tuple[TfliteTensor, ...]
    operators: tuple[TfliteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def tensor(self, op: TfliteOperator, place: int, *, output: bool = False) -> TfliteTensor:
        """An operator's tensor. Raises ValueError where it has none there."""
        numbers = op.outputs if output else op.inputs
        if place >= len(numbers) or numbers[place] < 0:
            raise ValueError(f"has no {'output' if output else 'input'} {place}")
        return self.tensors[numbers[place]]

    @contextmanager
    def naming(self, op: TfliteOperator) -> Iterator[None]:
        """Say of which operator a ValueError is, and of numbers that do not fit that the file is damaged."""
        where = f"{op.kind} ({', '.join(self.tensors[number].name for number in op.outputs)})"
        try:
            yield
        except (IndexError, OverflowError, ZeroDivisionError, TypeError) as error:
            raise ValueError(f"{where}: is damaged ({error})") from error
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error


def parse(data: bytes) -> TfliteContents:
    """Read a file's bytes.

    Raises:
        ValueError: not a TFLite file, a damaged one, more than one network, tensors of types or sizes that
            cannot be.
    """
    model = FlatTable.root(data, b"TFL3")
    if (version := model.scalar(0, "I", 0)) != 3:
        raise ValueError(f"is of version {version} of the schema: must be 3")
    graphs, buffers = model.tables(2), model.tables(4)
    if len(graphs) != 1:
        raise ValueError(f"holds {len(graphs)} networks: must be one, without control flow")
    codes = [_code(table) for table in model.tables(1)]
    (graph,) = graphs
    tables, operators = graph.tables(0), graph.tables(3)
    for listed, what, most in (
        (tables, "tensors", 4 * MAX_OPERATORS),
        (operators, "operators", MAX_OPERATORS),
    ):
        if len(listed) > most:
            raise ValueError(f"has {len(listed)} {what}: must be at most {most}")
    tensors = tuple(_tensor(i, table, data, buffers) for i, table in enumerate(tables))
    return TfliteContents(
        tensors=tensors,
        operators=tuple(_operator(table, codes, len(tensors)) for table in operators),
        inputs=_numbers(graph, 1, len(tensors)),
        outputs=_numbers(graph, 2, len(tensors)),
    )


def _code(table: FlatTable) -> str:
    number = max(table.scalar(0, "b", 0), table.scalar(3, "i", 0))
    name = OPERATORS.get(number, f"operator {number}")
    return f"CUSTOM '{table.text(1)}'" if name == "CUSTOM" else name


def _numbers(table: FlatTable, slot: int, count: int, least: int = 0) -> tuple[int, ...]:
    numbers = tuple(int(n) for n in table.vector(slot, np.int32))
    if any(not least <= n < count for n in numbers):
        raise DamagedError(f"is damaged: tensors {numbers} of {count}")
    return numbers


def _operator(table: FlatTable, codes: list[str], tensors: int) -> TfliteOperator:
    index = table.scalar(0, "I", 0)
    if index >= len(codes):
        raise DamagedError(f"is damaged: an operator has code {index} of {len(codes)}")
    return TfliteOperator(
        kind=codes[index],
        inputs=_numbers(table, 1, tensors, least=-1),
        outputs=_numbers(table, 2, tensors),
        options=table.table(4),
    )


def _tensor(index: int, table: FlatTable, data: bytes, buffers: list[FlatTable]) -> TfliteTensor:
    shape = tuple(int(size) for size in table.vector(0, np.int32))
    name, number = table.text(3), table.scalar(1, "b", 0)
    where = f"tensor {index} '{name}'"
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"{where}: shape {shape}: sizes must be known, and {MAX_ELEMENTS} elements at most")
    dtype = DTYPES.get(number, f"type {number}")
    if table.scalar(5, "?", False):
        raise ValueError(f"{where}: keeps its value from call to call, which no program does")
    if table.table(6) is not None:
        raise ValueError(f"{where}: is sparse. Remedy: convert the network without sparsity")
    quantization = table.table(4)
    empty = FlatTable(b"\x04\x00\x04\x00\x04\x00\x00\x00", 4)  # a table without fields
    q = quantization or empty
    scale, zero_point = q.vector(2, np.float32), q.vector(3, np.int64)
    if len(zero_point) != len(scale):
        if len(zero_point):
            raise ValueError(f"{where}: {len(scale)} scales and {len(zero_point)} zero points")
        zero_point = np.zeros(len(scale), np.int64)
    if len(scale) and not (np.isfinite(scale) & (scale > 0)).all():
        raise ValueError(f"{where}: scales must be positive and finite")
    return TfliteTensor(
        index=index,
        name=name,
        dtype=dtype,
        shape=shape,
        scale=scale,
        zero_point=zero_point,
        axis=q.scalar(6, "i", 0),
        data=_contents(table, where, dtype, shape, data, buffers),
    )


def _contents(
    table: FlatTable, where: str, dtype: str, shape: tuple[int, ...], data: bytes, buffers: list[FlatTable]
) -> NDArray[np.generic] | None:
    """A constant's numbers; None for what is computed."""
    number = table.scalar(2, "I", 0)
    if number >= len(buffers):
        raise DamagedError(f"{where}: buffer {number} of {len(buffers)}")
    raw = buffers[number].vector(0, np.uint8)
    offset, size = (buffers[number].scalar(slot, "Q", 0) for slot in (1, 2))
    if offset > 1:  # contents behind the tables, as in large files
        if offset + size > len(data):
            raise DamagedError(f"{where}: its contents lie at byte {offset + size} of {len(data)}")
        raw = np.frombuffer(data, np.uint8, size, offset)
    if number == 0 or not raw.size:
        return None
    if dtype == "int4":
        if raw.size != -(-math.prod(shape) // 2):
            raise ValueError(f"{where}: {raw.size} bytes for {dtype} {shape}")
        halves = np.stack([raw & 15, raw >> 4], axis=1).reshape(-1)[: math.prod(shape)]  # the lower first
        signed: NDArray[np.generic] = ((halves ^ 8).astype(np.int8) - 8).reshape(shape)
        return signed
    if dtype not in ARRAYS:
        return np.array(raw)
    kind = np.dtype(dtype)
    if raw.size != math.prod(shape) * kind.itemsize:
        raise ValueError(f"{where}: {raw.size} bytes for {dtype} {shape}")
    numbers: NDArray[np.generic] = np.frombuffer(raw.tobytes(), kind).reshape(shape)
    return numbers
