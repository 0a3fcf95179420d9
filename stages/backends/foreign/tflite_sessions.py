"""Sessions of the runtimes of TFLite files: LiteRT and tflite-micro."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.integer.program import Integers

if TYPE_CHECKING:
    from stages.exporters.tflite_file.model import TfliteModel

TfliteSession = Callable[[Integers], Sequence[NDArray[Any]]]
"""Levels of the file's input, (N, …) in its layout, to the tensors that were asked for."""

LiteRtKernels = Literal["reference", "optimized", "xnnpack"]
"""LiteRT's plain kernels, its fast ones, and those with the XNNPACK delegate for what that takes."""

_RESOLVERS = {
    "reference": "BUILTIN_REF",
    "optimized": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "xnnpack": "BUILTIN",
}

LARGEST_ARENA = 2**30
"""Bytes that tflite-micro is given at most."""


def load_litert(
    model: TfliteModel, wanted: tuple[int, ...], *, kernels: LiteRtKernels, threads: int | None
) -> TfliteSession:
    """A session in LiteRT that gives the tensors with these indices: outputs of the file, or its input.

    Raises:
        PipelineError: LiteRT does not take the file.
    """
    from ai_edge_litert import interpreter as litert

    try:
        session = litert.Interpreter(
            model_content=model.data,
            num_threads=threads,
            experimental_op_resolver_type=litert.OpResolverType[_RESOLVERS[kernels]],
        )
        session.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise PipelineError(
            f"backend=litert: LiteRT's {kernels} kernels do not take the program's file ({error}). "
            "Remedy: backend.kernels=reference, or backend=tflm"
        ) from error
    (first,) = (detail["index"] for detail in session.get_input_details())

    def run(q: Integers) -> list[NDArray[Any]]:
        session.set_tensor(first, q)
        session.invoke()
        return [session.get_tensor(index) for index in wanted]

    return run


def load_tflm(model: TfliteModel, wanted: tuple[int, ...]) -> TfliteSession:
    """A session in tflite-micro that gives the tensors with these indices.

    Raises:
        PipelineError: tflite-micro does not take the file.
    """
    from tflite_micro import runtime

    keeps = wanted != model.outputs
    config = runtime.InterpreterConfig
    arena, session = model.arena, None
    while session is None:
        try:
            session = runtime.Interpreter.from_bytes(
                model.data,
                arena_size=arena,
                intrepreter_config=config.kPreserveAllTensors if keeps else config.kAllocationRecording,
            )
        except (ValueError, RuntimeError) as error:
            arena *= 8
            if arena > LARGEST_ARENA:
                raise PipelineError(
                    f"backend=tflm: tflite-micro does not take the program's file ({error}), and says why "
                    f"on the error output; the file has {', '.join(model.operators)}. Remedy: backend=litert"
                ) from error

    def run(q: Integers) -> list[NDArray[Any]]:
        session.set_input(q, 0)
        session.invoke()
        if keeps:
            return [np.asarray(session.GetTensor(index, 0)["tensor_data"]) for index in wanted]
        return [np.asarray(session.get_output(0))]

    return run
