"""Quantized TFLite files as integer programs in the arithmetic ``tflm``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from stages.importers.tflite_file import elements, layers, moves
from stages.importers.tflite_file.contents import TfliteContents, TfliteOperator, parse
from stages.importers.tflite_file.reader import TfliteReader
from stages.importers.tflite_file.tables import TABLES
from stages.integer.bounds import check_accumulators
from stages.integer.kernel import signature
from stages.integer.program import Op, Program

READERS: Mapping[str, Callable[[TfliteReader, TfliteOperator], None]] = {
    "CONV_2D": layers.conv2d,
    "DEPTHWISE_CONV_2D": layers.depthwise_conv2d,
    "FULLY_CONNECTED": layers.fully_connected,
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
    for op in contents.operators:
        _take(reader, op)
    if not reader.first:
        raise ValueError(
            f"{first}, the input, is {first.dtype}, and no QUANTIZE reads it. "
            "Remedy: a network of integers throughout"
        )
    (output,) = contents.outputs
    if output not in reader.names:
        raise ValueError(f"{contents.tensors[output]}, the output, is not computed")
    result = reader.in_file_order(reader.values[reader.names[output]])
    program = without_pads(
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


def without_pads(program: Program) -> Program:
    """The program with zeros that a convolution alone reads as its own padding, where that gives its windows.

    A convolution pads both sides alike; zeros at an end that no window reaches may be left out of a file.
    """
    made = {op.output: op for op in program.ops if op.op == "pad"}
    reads = Counter(name for op in program.ops for name in op.inputs) + Counter([program.output])
    values, ops = dict(program.values), []
    for op in program.ops:
        pad = made.get(op.inputs[0])
        if op.op == "conv2d" and pad is not None and reads[pad.output] == 1:
            channels, *image = pad.attrs["pads"]
            own = op.attrs["padding"]
            padding = tuple(both + before for both, (before, _) in zip(own, image, strict=True))
            padded = replace(op, inputs=pad.inputs, attrs={**op.attrs, "padding": padding})
            if channels == (0, 0) and _gives(padded, program):
                op = padded
                del values[pad.output]
        ops.append(op)
    return replace(program, values=values, ops=tuple(op for op in ops if op.output in values))


def _gives(op: Op, program: Program) -> bool:
    """Whether the operator gives its output's shape."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    try:
        return tuple(signature(op).shape(op, [x.shape])) == y.shape
    except ValueError:
        return False


def is_float(contents: TfliteContents) -> bool:
    """Whether no activation of the network is quantized."""
    computed = [contents.tensors[number] for op in contents.operators for number in op.outputs]
    return not any(tensor.dtype in ("int8", "uint8", "int16") for tensor in computed)


def _take(reader: TfliteReader, op: TfliteOperator) -> None:
    where = f"{op.kind} ({', '.join(reader.contents.tensors[n].name for n in op.outputs)})"
    try:
        if _is_an_end(reader, op):
            return
        if op.kind not in READERS:
            known = ", ".join(sorted(READERS))
            raise ValueError(f"has no form in integers here; known are {known}. Remedy: a network without it")
        READERS[op.kind](reader, op)
    except (IndexError, OverflowError, ZeroDivisionError, TypeError) as error:
        raise ValueError(f"{where}: is damaged ({error})") from error
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


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
