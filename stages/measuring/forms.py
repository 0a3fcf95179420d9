"""The forms of a network as functions of images: float, simulated, integer.

Each takes a batch (N, …) as the network does, and gives float32 outputs (N, …).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from stages.artifacts import QuantizedModel
from stages.backends.base import (
    Backend,
    Executable,
    NeedsMachine,
    Tolerance,
    predict,
    tolerance_of,
    what_ran,
)
from stages.backends.foreign.installed import require_installed
from stages.data.base import Data
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Graph
from stages.graph.simulate import Simulation, simulation_of
from stages.integer.program import Program
from stages.tasks.base import Outputs

Form = Callable[[Tensor], Outputs]


def float_form(graph: Graph) -> Form:
    """The network as captured, BatchNorm folded and fused, as it is deployed."""
    deployed = fuse(fold_batch_norm(graph))

    def form(x: Tensor) -> Outputs:
        with torch.inference_mode():
            return execute(deployed, x).numpy()

    return form


def simulated_form(model: QuantizedModel | None, program: Program | None) -> Form | None:
    """The program's simulation; where there is no program, the quantized network's; None where neither is."""
    if program is not None:
        simulation: Callable[[Tensor], Tensor] = Simulation(program)
    elif model is not None:
        simulation = simulation_of(model.quantized)
    else:
        return None

    def form(x: Tensor) -> Outputs:
        with torch.inference_mode():
            return simulation(x).numpy()

    return form


def integer_form(executable: Executable, program: Program) -> Form:
    """The integer program on a backend, quantizing its input and dequantizing its output included."""
    return lambda x: predict(executable, program, x.numpy())


def check_backend(backend: Backend | None) -> None:
    """Raise `PipelineError` where a backend cannot run here, for want of a package or of the right machine.

    Stages ask before anything is computed; None runs no integers, and needs nothing.
    """
    if backend is None:
        return
    require_installed(backend)
    if isinstance(backend, NeedsMachine):
        backend.check_machine()


def prepare(program: Program, backend: Backend | None, data: Data) -> tuple[Executable, Tolerance]:
    """The program on the backend, and what its integers have to keep there.

    Raises:
        PipelineError: there is no backend, or the data is not what the program takes.
    """
    if backend is None:
        raise PipelineError("backend=simulation runs no integer program; choose backend=native or another")
    if tuple(data.shape) != (shape := program.values[program.input].shape):
        raise PipelineError(
            f"data gives samples of shape {tuple(data.shape)} and the program takes {shape}; choose the data "
            "that it was made for (data=…)"
        )
    executable = backend.compile(program)
    return executable, tolerance_of(what_ran(backend, executable), program)
