"""The forms of a network as functions of images: float, simulated, integer.

Each takes float32 (N, C, H, W) and gives float32 logits (N, classes). The simulated form also gives levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import PipelineError
from stages.backends.base import Backend, Executable, Tolerance, predict, tolerance_of, what_ran
from stages.data.base import Data
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Graph, Node
from stages.graph.lower import to_levels
from stages.graph.quantized import QuantizedGraph, Simulation
from stages.integer.program import Integers, Program

Logits = NDArray[np.float32]
Form = Callable[[Tensor], Logits]


class Simulated(Protocol):
    """A simulation of the integers."""

    def __call__(self, x: Tensor) -> Tensor:
        """Logits."""

    def trace(self, x: Tensor) -> dict[str, Integers]:
        """Levels by value name."""


def simulation_of(quantized: QuantizedGraph | None, program: Program | None) -> Simulated | None:
    """The simulation of a network as quantized, or as lowered; None where neither can be simulated."""
    return None if quantized is None else _Levels(quantized)


def float_form(graph: Graph) -> Form:
    """The network as captured, BatchNorm folded and fused, as it is deployed."""
    deployed = fuse(fold_batch_norm(graph))

    def form(x: Tensor) -> Logits:
        with torch.inference_mode():
            return execute(deployed, x).numpy()

    return form


def simulated_form(simulation: Simulated) -> Form:
    """The simulation."""

    def form(x: Tensor) -> Logits:
        with torch.inference_mode():
            return simulation(x).numpy()

    return form


def integer_form(executable: Executable, program: Program) -> Form:
    """The integer program on a backend, quantizing its input and dequantizing its output included."""
    return lambda x: predict(executable, program, x.numpy())


def prepare(program: Program, backend: Backend | None, data: Data) -> tuple[Executable, Tolerance]:
    """The program on the backend, and what its integers have to keep there.

    Raises:
        PipelineError: there is no backend, or the data is not what the program takes.
    """
    if backend is None:
        raise PipelineError("backend=simulation runs no integer program; choose backend=native or another")
    if tuple(data.shape) != (shape := program.values[program.input].shape):
        raise PipelineError(
            f"data gives images of shape {tuple(data.shape)} and the program takes {shape}; choose the data "
            "that it was made for (data=…)"
        )
    executable = backend.compile(program)
    return executable, tolerance_of(what_ran(backend, executable), program)


class _Levels(Simulation):
    """The simulation, with the levels of its values."""

    def trace(self, x: Tensor) -> dict[str, Integers]:
        levels: dict[str, Integers] = {}

        def keep(node: Node, value: Tensor) -> None:
            if node.name in self.quantized.activations:
                levels[node.name] = to_levels(value, self.quantized, node.name)

        with torch.inference_mode():
            self(x, keep)
        return levels
