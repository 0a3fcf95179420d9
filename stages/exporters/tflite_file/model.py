"""The integer program as a TFLite file: int8 tensors with scale and zero point, images with channels last.

The format is tensorflow/lite/schema/schema.fbs; what its operators compute with int8 is said by "TensorFlow
Lite 8-bit quantization specification". A program in `tflm` form (`stages.integer.profiles`) has that
arithmetic, and is written as it is: tflite-micro computes its integers.

Samples go through as one batch of a fixed number, since RESHAPE, STRIDED_SLICE and constants name it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from stages.exporters.tflite_file.elements import ELEMENTS
from stages.exporters.tflite_file.layers import avg_pool2d, conv2d, linear, max_pool2d
from stages.exporters.tflite_file.layout import TensorLayout
from stages.exporters.tflite_file.moves import MOVES
from stages.exporters.tflite_file.writer import VERSIONS, NoFormError, Stored, TfliteWriter, no_form
from stages.integer.program import Op, Program, Value

SCHEMA_VERSION = 3

OPERATORS: Mapping[str, Callable[[TfliteWriter, Op], None]] = {
    "conv2d": conv2d,
    "linear": linear,
    "avg_pool2d": avg_pool2d,
    "max_pool2d": max_pool2d,
    **ELEMENTS,
    **MOVES,
}


@dataclass(frozen=True, kw_only=True)
class TfliteModel:
    """A file, and where the program's values are in it.

    Args:
        data: the file's bytes.
        values: by value, the index of its tensor and its layout.
        constants: the values that are the same for every sample, and have no tensor of their own.
        outputs: the tensors that are outputs, in order; the network's output first.
        operators: the kinds of operators in it, TFLite's names.
        arena: bytes that hold all tensors without contents at once, and an interpreter's records, amply.
    """

    data: bytes
    values: Mapping[str, Stored]
    constants: Mapping[str, NDArray[np.integer]]
    outputs: tuple[int, ...]
    operators: tuple[str, ...]
    arena: int


def problems(program: Program) -> list[str]:
    """Why `program` cannot be written: kinds of operators that have no form, which, why, and a remedy.

    Of operators of a kind with the same remedy the first is said in full.
    """
    found: list[NoFormError] = []
    _written(TfliteWriter(program=program, batch=1), found)
    alike: dict[tuple[str, str], list[NoFormError]] = {}
    for error in found:
        alike.setdefault((error.kind, error.remedy), []).append(error)
    return [_together(errors) for errors in alike.values()]


def program_to_tflite(
    program: Program,
    batch: int = 1,
    *,
    metadata: Mapping[str, str] | None = None,
    float_io: bool = False,
    int4: bool = False,
    trace: bool = False,
) -> TfliteModel:
    """Write a program, which should be in `tflm` form, as a TFLite file.

    Args:
        program: what to write.
        batch: samples a call.
        metadata: entries of the file's metadata, by name, each in a buffer of its own.
        float_io: whether input and output are float32, with QUANTIZE and DEQUANTIZE in the file.
        int4: whether weights that 4 bits hold are stored so; not every kernel reads them.
        trace: make every value's tensor an output.

    Raises:
        NoFormError: the first operator that TFLite does not have; `problems` says them all.
    """
    found: list[NoFormError] = []
    writer = _written(TfliteWriter(program=program, batch=batch, int4=int4), found)
    if found:
        raise found[0]
    x, y = (program.values[name] for name in (program.input, program.output))
    first, last = writer.stored[x.name].tensor, writer.value(y.name, TensorLayout.usual(y.shape))
    if first == last:  # a network that moves nothing: a file's output is not its input
        shape = writer.tensors[first].shape
        last = writer.reshape_into(first, writer.like(first, f"{y.name}/output", shape))
    writer.same(y.name, last, TensorLayout.usual(y.shape))
    if float_io:
        first, last = _float_ends(writer, first, last)
    outputs = [last]
    if trace:
        outputs += sorted({at.tensor for at in writer.stored.values()} - {first, last})
    data = _packed(writer, first, outputs, metadata or {})
    return TfliteModel(
        data=data,
        values=writer.stored,
        constants=writer.constants,
        outputs=tuple(outputs),
        operators=tuple(writer.codes),
        arena=_arena(writer),
    )


def _written(writer: TfliteWriter, found: list[NoFormError]) -> TfliteWriter:
    """Write every operator; reasons of those that have no form are added to `found`."""
    program = writer.program
    x = program.values[program.input]
    if x.wide:
        remedy = "a network that reads images or numbers"
        found.append(NoFormError(x.name, "input", "levels of more than 8 bits", remedy))
    _declare(writer, x, TensorLayout.usual(x.shape))
    for op in program.ops:
        y = program.values[op.output]
        try:
            if op.op not in OPERATORS:
                raise no_form(
                    op, "no operator of TFLite computes it", "leave this export out, or a network without it"
                )
            if y.wide or y.dtype != x.dtype:
                levels = f"levels {y.quant_min}..{y.quant_max} are not {x.dtype}, as the input's are"
                raise no_form(op, levels, "convert.arithmetic=tflm, whose levels are all signed")
            OPERATORS[op.op](writer, op)
        except NoFormError as error:
            found.append(error)
            _declare(writer, y, TensorLayout.usual(y.shape))
    if program.output in writer.constants:
        remedy = "a network that reads its input"
        found.append(NoFormError(program.output, "constant", "is the network's output", remedy))
    return writer


def _together(errors: list[NoFormError], most: int = 3) -> str:
    """One sentence of operators that are refused alike."""
    names = ", ".join(f"'{error.name}'" for error in errors[:most]) + (", …" if len(errors) > most else "")
    return f"{names} ({errors[0].kind}): {errors[0].why}. Remedy: {errors[0].remedy}"


def _declare(writer: TfliteWriter, value: Value, layout: TensorLayout) -> None:
    if value.wide:
        index = writer.tensor(value.name, (writer.batch, *layout.shape), "int32")
        writer.same(value.name, index, layout)
    else:
        writer.declare(value.name, layout)


def _float_ends(writer: TfliteWriter, first: int, last: int) -> tuple[int, int]:
    """float32 tensors before the first one and behind the last; operators stand in the order of execution."""
    x = writer.tensor("input", writer.tensors[first].shape, "float32")
    y = writer.tensor("output", writer.tensors[last].shape, "float32")
    writer.operator("QUANTIZE", [x], first, schema.QuantizeOptionsT())
    writer.operators.insert(0, writer.operators.pop())
    writer.operator("DEQUANTIZE", [last], y, schema.DequantizeOptionsT())
    return x, y


def _arena(writer: TfliteWriter) -> int:
    """Four bytes an element, since some kernels keep sums, twice; a KiB a tensor for its record."""
    elements: int = sum(math.prod(tensor.shape) for tensor in writer.tensors if not tensor.buffer)
    return 2**16 + 8 * elements + 1024 * len(writer.tensors)


class _Builder(flatbuffers.Builder):  # type: ignore[misc]
    """Aligns the contents of tensors to 16 bytes, as schema.fbs says and microcontrollers rely on."""

    def StartVector(self, size: int, count: int, alignment: int) -> int:  # noqa: N802
        offset: int = super().StartVector(size, count, 16 if size == 1 else alignment)
        return offset


def _packed(writer: TfliteWriter, first: int, outputs: list[int], metadata: Mapping[str, str]) -> bytes:
    entries = []
    for name, text in metadata.items():
        writer.buffers.append(schema.BufferT(data=np.frombuffer(text.encode(), np.uint8)))
        entries.append(schema.MetadataT(name=name, buffer=len(writer.buffers) - 1))
    codes = []
    for code in writer.codes:
        number = getattr(schema.BuiltinOperator, code)
        codes.append(
            schema.OperatorCodeT(
                deprecatedBuiltinCode=min(number, 127), builtinCode=number, version=VERSIONS.get(code, 2)
            )
        )
    graph = schema.SubGraphT(
        tensors=writer.tensors, inputs=[first], outputs=outputs, operators=writer.operators, name="main"
    )
    model = schema.ModelT(
        version=SCHEMA_VERSION,
        operatorCodes=codes,
        subgraphs=[graph],
        description="quantization-pipeline",
        buffers=writer.buffers,
        metadata=entries,
    )
    builder = _Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
