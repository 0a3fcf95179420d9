"""Files of one operator, as TFLite's schema has them, and what tflite-micro makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor of a file: quantized where it has a scale, constant where it has content."""

    shape: tuple[int, ...]
    scale: Sequence[float] = ()
    zero_point: int = 0
    content: NDArray[Any] | None = None
    dtype: str = "int8"
    axis: int = 0


def levels(*shape: int, scale: float = 0.05, zero_point: int = 3, dtype: str = "int8") -> Tensor:
    """A tensor that is computed."""
    return Tensor(shape=shape, scale=(scale,), zero_point=zero_point, dtype=dtype)


def constant(array: Any, *scale: float, zero_point: int = 0, axis: int = 0) -> Tensor:
    """A constant, quantized where it has a scale."""
    content = np.asarray(array)
    return Tensor(
        shape=content.shape,
        scale=scale,
        zero_point=zero_point,
        content=content,
        dtype=content.dtype.name,
        axis=axis,
    )


def file_of(kind: str, inputs: Sequence[Tensor], output: Tensor, options: Any = None) -> bytes:
    """A file of one operator, whose first input without content is the file's."""
    first = next(i for i, one in enumerate(inputs) if one.content is None)
    return network_of(
        [*inputs, output], [(kind, tuple(range(len(inputs))), len(inputs), options)], first=first
    )


def network_of(
    tensors: Sequence[Tensor], operators: Sequence[tuple[str, tuple[int, ...], int, Any]], first: int = 0
) -> bytes:
    """A file of operators in a row: kind, numbers of the inputs and of the output, options."""
    buffers, made = [schema.BufferT()], []
    for i, one in enumerate(tensors):
        buffer = 0
        if one.content is not None:
            buffers.append(
                schema.BufferT(data=np.frombuffer(np.ascontiguousarray(one.content).tobytes(), np.uint8))
            )
            buffer = len(buffers) - 1
        quantization = None
        if one.scale:
            quantization = schema.QuantizationParametersT(
                scale=list(one.scale),
                zeroPoint=[one.zero_point] * len(one.scale),
                quantizedDimension=one.axis,
            )
        number = getattr(schema.TensorType, one.dtype.upper())
        made.append(
            schema.TensorT(
                shape=list(one.shape), type=number, buffer=buffer, name=f"t{i}", quantization=quantization
            )
        )
    codes = list(dict.fromkeys(getattr(schema.BuiltinOperator, kind) for kind, *_ in operators))
    listed = []
    for kind, inputs, output, options in operators:
        own: Mapping[str, Any] = {}
        if options is not None:
            name = type(options).__name__.removesuffix("T")
            own = {"builtinOptionsType": getattr(schema.BuiltinOptions, name), "builtinOptions": options}
        code = codes.index(getattr(schema.BuiltinOperator, kind))
        listed.append(schema.OperatorT(opcodeIndex=code, inputs=list(inputs), outputs=[output], **own))
    graph = schema.SubGraphT(tensors=made, inputs=[first], outputs=[operators[-1][2]], operators=listed)
    model = schema.ModelT(
        version=3,
        operatorCodes=[
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=1)
            for code in codes
        ],
        subgraphs=[graph],
        buffers=buffers,
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def by_tflite_micro(data: bytes, samples: NDArray[Any]) -> NDArray[Any]:
    """The file's output for samples in the file's layout, one after the other."""
    from tflite_micro import runtime

    session = runtime.Interpreter.from_bytes(data, arena_size=4 << 20)
    results = []
    for sample in samples:
        session.set_input(np.ascontiguousarray(sample[None]), 0)
        session.invoke()
        results.append(np.array(session.get_output(0))[0])
    return np.stack(results)
