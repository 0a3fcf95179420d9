"""Parity: float, simulation and integers side by side on the same samples, layer by layer.

For every value that is rounded the difference of levels ``simulated − integer`` and ``reference − backend``
is counted over all elements, and the signal-to-quantization-noise ratio of the integers is
``SQNR = 10 log10(Σ f² / Σ (s(q−z) − f)²)`` in dB, f the float value. Differences accumulate along the
network: a layer's include those of its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.artifacts import LayerParity, Parity
from stages.backends.base import Executable
from stages.graph.execute import execute
from stages.graph.ir import Node
from stages.graph.points import quantization_points
from stages.graph.quantized import QuantizedGraph
from stages.graph.simulate import Simulation
from stages.integer.bounds import layer_accumulators
from stages.integer.interpreter import dequantize_output, quantize_input
from stages.integer.program import Integers, Program
from stages.measuring.accuracy import sqnr_db
from stages.tasks.base import Task, agreeing

SPAN = 255
"""Levels lie in 8 bits, so that no two differ by more."""


@dataclass
class _Counts:
    """What has been counted at one point."""

    simulated: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * SPAN + 1, np.int64))
    backend: NDArray[np.int64] = field(default_factory=lambda: np.zeros(2 * SPAN + 1, np.int64))
    signal: float = 0.0
    noise: float = 0.0


def _differences(a: Integers, b: Integers) -> NDArray[np.int64]:
    """How often each difference a − b occurs; index `SPAN` is zero."""
    difference = a.astype(np.int16) - b.astype(np.int16)
    return np.bincount(difference.ravel() + SPAN, minlength=2 * SPAN + 1).astype(np.int64)


def _histogram(counts: NDArray[np.int64]) -> dict[int, int]:
    return {int(i) - SPAN: int(counts[i]) for i in np.flatnonzero(counts)}


class LayerComparison:
    """Counts over batches; memory is that of one batch's activations, four times.

    Args:
        program: the integers.
        backend: the executable that is judged.
        reference: the reference's executable; None where `backend` is the reference itself.
        quantized: the network that was lowered to `program`; None where the program is all there is.
        task: what the outputs mean.
    """

    def __init__(
        self,
        program: Program,
        backend: Executable,
        reference: Executable | None,
        quantized: QuantizedGraph | None,
        task: Task,
    ) -> None:
        self._task = task
        self._program = program
        self._backend = backend
        self._reference = reference
        self._quantized = quantized
        self._simulation = Simulation(program)
        points = program.values if quantized is None else quantization_points(quantized.graph)
        self._counts = {name: _Counts() for name in points}
        self._samples = 0
        self._agreeing = 0

    def update(self, x: Tensor) -> None:
        """Run all forms on `x`, float32 (N, C, H, W), and count."""
        q = quantize_input(self._program, x.numpy())
        integers = self._backend.trace(q)
        exact = integers if self._reference is None else self._reference.trace(q)
        simulated = self._simulation.trace(x)
        floats = self._float_values(x)
        for name, counts in self._counts.items():
            value = self._program.values[name]
            counts.backend += _differences(exact[name], integers[name])
            counts.simulated += _differences(simulated[name], integers[name])
            if name in floats:
                real = (integers[name].astype(np.float32) - value.zero_point) * np.float32(value.scale)
                counts.signal += float(np.square(floats[name], dtype=np.float64).sum())
                counts.noise += float(np.square(real - floats[name], dtype=np.float64).sum())
        output = self._program.output
        decided = (
            self._task.decisions(dequantize_output(self._program, levels[output]))
            for levels in (exact, integers)
        )
        self._agreeing += int(agreeing(*decided).sum())
        self._samples += len(x)

    def _float_values(self, x: Tensor) -> dict[str, NDArray[np.float32]]:
        values: dict[str, NDArray[np.float32]] = {}

        def keep(node: Node, value: Tensor) -> Tensor:
            if node.name in self._counts:
                values[node.name] = value.numpy()
            return value

        if self._quantized is not None:
            with torch.inference_mode():
                execute(self._quantized.graph, x, keep)
        return values

    def parity(self) -> Parity:
        """What was counted, the layers in execution order."""
        accumulators = layer_accumulators(self._program)
        ops = {op.output: op.op for op in self._program.ops}
        if self._quantized is not None:
            ops = {node.name: node.op for node in self._quantized.graph.nodes}
        measured = self._quantized is not None and self._samples > 0
        layers = (
            LayerParity(
                name=name,
                op=ops.get(name, "input"),
                simulated_minus_integer=_histogram(counts.simulated),
                reference_minus_backend=_histogram(counts.backend),
                sqnr_db=sqnr_db(counts.signal, counts.noise) if measured else None,
                noiseless=measured and counts.noise == 0.0,
                accumulator=accumulators.get(name),
            )
            for name, counts in self._counts.items()
        )
        return Parity(
            layers=tuple(layers),
            samples=self._samples,
            agreeing=self._agreeing,
            decision=self._task.decision,
            notes=tuple(self._backend.notes),
        )
