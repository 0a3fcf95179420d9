"""Quantized TFLite files as integer programs in the arithmetic ``tflm``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from stages.importers.tflite_file import elements, layers, lookups, moves
from stages.importers.tflite_file.contents import TfliteContents, TfliteOperator, parse
from stages.importers.tflite_file.reader import TfliteReader
from stages.importers.tflite_file.tables import TABLES
from stages.importers.tflite_file.tidy import tidied
from stages.importers.tflite_file.zeros import inserted_zeros
from stages.integer.bounds import check_accumulators
from stages.integer.program import Program

READERS: Mapping[str, Callable[[TfliteReader, TfliteOperator], None]] = {
    "CONV_2D": layers.conv2d,
    "DEPTHWISE_CONV_2D": layers.depthwise_conv2d,
    "FULLY_CONNECTED": layers.fully_connected,
    "BATCH_MATMUL": layers.batch_matmul,
    "AVERAGE_POOL_2D": layers.avg_pool2d,
    "MAX_POOL_2D": layers.max_pool2d,
    "ADD": elements.sum_of_two,
    "SUB": elements.sum_of_two,
    "MUL": elements.product,
    "MAXIMUM": elements.extreme,
    "MINIMUM": elements.extreme,
    **dict.fromkeys(("MEAN", "REDUCE_MAX", "REDUCE_MIN"), elements.reduction),
    "SOFTMAX": elements.softmax,
    **dict.fromkeys(("RELU", "RELU6", "RELU_N1_TO_1", "QUANTIZE"), elements.bounded),
    **dict.fromkeys(TABLES, elements.table),
    **dict.fromkeys(("RESHAPE", "SQUEEZE", "EXPAND_DIMS"), moves.reshape),
    "TRANSPOSE": moves.transpose,
    "PAD": moves.pad,
    "PADV2": moves.pad,
    "CONCATENATION": moves.concatenation,
    "GATHER": moves.gather,
    "CAST": lookups.cast,
    "RESIZE_NEAREST_NEIGHBOR": moves.upsample_nearest,
    "STRIDED_SLICE": moves.strided_slice,
    "SLICE": moves.slices,
}
"""By operator: what reads it."""


def read_tflite(path: Path | str) -> Program:
    """The program of a file that holds int8 or uint8 throughout, but for float inputs and outputs.

    Raises:
        ValueError: the file cannot be read, is damaged, or holds what has no form in integers; names the
            file, the operator and its output, and the remedy.
    """
    contents = read_contents(path)
    try:
        return program_of(contents)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_contents(path: Path | str) -> TfliteContents:
    """What a file says. Raises ValueError where it cannot be read, or is damaged; names it."""
    try:
        return parse(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def program_of(contents: TfliteContents) -> Program:
    """The program of a file's contents. Raises ValueError as `read_tflite` does."""
    if len(contents.inputs) != 1 or len(contents.outputs) != 1:
        raise ValueError(
            f"has {len(contents.inputs)} inputs and {len(contents.outputs)} outputs: must have one of each"
        )
    first = contents.tensors[contents.inputs[0]]
    if is_float(contents):
        raise ValueError(
            "holds a float network, and no integer program. Remedy: model=tflite model.path=… quantizes it"
        )
    if not first.shape:
        raise ValueError(f"{first} has no dimension")
    reader = TfliteReader(contents=contents, batch=first.shape[0])
    if first.dtype != "float32":
        reader.first = reader.value(first).name
    zeros = inserted_zeros(contents)
    skipped = {i for one in zeros.values() for i in one.operators}
    for i, op in enumerate(contents.operators):
        if i in zeros:
            zeros[i].read(reader, op)
        elif i not in skipped:
            _take(reader, op)
    if not reader.first:
        raise ValueError(
            f"{first}, the input, is {first.dtype}, and no QUANTIZE reads it. "
            "Remedy: a network of integers throughout"
        )
    (output,) = contents.outputs
    if output not in reader.names and output not in reader.filled:
        raise ValueError(f"{contents.tensors[output]}, the output, is not computed")
    result = reader.in_file_order(reader.computed(contents.tensors[output]))
    program = tidied(
        Program(
            values=reader.values,
            ops=tuple(reader.ops),
            input=reader.first,
            output=result.name,
            requantize="tflm",
        )
    )
    check_accumulators(program)
    return program


def is_float(contents: TfliteContents) -> bool:
    """Whether no activation of the network is quantized."""
    computed = [contents.tensors[number] for op in contents.operators for number in op.outputs]
    return not any(tensor.dtype in ("int8", "uint8", "int16") for tensor in computed)


def _take(reader: TfliteReader, op: TfliteOperator) -> None:
    with reader.contents.naming(op):
        if _is_an_end(reader, op):
            return
        if op.kind not in READERS:
            known = ", ".join(sorted(READERS))
            raise ValueError(f"has no form in integers here; known are {known}. Remedy: a network without it")
        READERS[op.kind](reader, op)


def _is_an_end(reader: TfliteReader, op: TfliteOperator) -> bool:
    """Read QUANTIZE of a float input and DEQUANTIZE of the output, which the program's ends do themselves."""
    x, y = reader.tensor(op, 0), reader.tensor(op, 0, output=True)
    if op.kind == "QUANTIZE" and x.index in reader.contents.inputs and x.dtype == "float32":
        reader.first = reader.first or reader.value(y).name
        return y.index in reader.names
    if op.kind == "DEQUANTIZE" and y.index in reader.contents.outputs and x.index in reader.names:
        reader.alias(y, reader.values[reader.names[x.index]])
        return True
    return False
