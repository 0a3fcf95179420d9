"""Parity: float, simulation and integers side by side on the same samples, layer by layer.

For every quantization point the difference of levels ``simulated − integer`` and ``reference − backend``
is counted over all elements, and the signal-to-quantization-noise ratio of the integers is
``SQNR = 10 log10(Σ f² / Σ (s(q−z) − f)²)`` in dB, f the float value. Differences accumulate along the
network: a layer's include those of its inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.artifacts import LayerParity
from stages.backends.base import Executable
from stages.graph.execute import execute
from stages.graph.ir import Node
from stages.graph.points import quantization_points
from stages.graph.quantized import QuantizedGraph
from stages.graph.simulate import Simulation
from stages.integer.bounds import layer_accumulators
from stages.integer.interpreter import quantize_input
from stages.integer.program import Integers, Program

SPAN = 255
"""Levels lie in 8 bits, so that no two differ by more."""


def sqnr_db(signal: float, noise: float) -> float:
    """Ratio of powers in decibels; infinite where there is no noise, 0 where there is no signal either."""
    if noise == 0.0:
        return math.inf if signal > 0.0 else 0.0
    return 10.0 * math.log10(max(signal, 1e-300) / noise)


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


class Parity:
    """Accumulates over batches; memory is that of one batch's activations, four times.

    Args:
        quantized: the network with its parameters.
        program: its lowering.
        backend: the executable whose integers are judged.
        reference: the reference's executable; None where `backend` is the reference itself.
    """

    def __init__(
        self, quantized: QuantizedGraph, program: Program, backend: Executable, reference: Executable | None
    ) -> None:
        self._quantized = quantized
        self._program = program
        self._backend = backend
        self._reference = reference
        self._simulation = Simulation(program)
        self._counts = {name: _Counts() for name in quantization_points(quantized.graph)}
        self.samples = 0
        self.same_top1 = 0

    def update(self, x: Tensor) -> Integers:
        """Run all forms on `x`, float32 (N, C, H, W), count, and give the reference's output levels."""
        floats, simulated = self._float_values(x), self._simulation.trace(x)
        q = quantize_input(self._program, x.numpy())
        integers = self._backend.trace(q)
        exact = integers if self._reference is None else self._reference.trace(q)
        for name, counts in self._counts.items():
            value = self._program.values[name]
            counts.simulated += _differences(simulated[name], integers[name])
            counts.backend += _differences(exact[name], integers[name])
            real = (integers[name].astype(np.float32) - value.zero_point) * np.float32(value.scale)
            counts.signal += float(np.square(floats[name], dtype=np.float64).sum())
            counts.noise += float(np.square(real - floats[name], dtype=np.float64).sum())
        output = self._program.output
        top1 = (levels[output].reshape(len(x), -1).argmax(1) for levels in (exact, integers))
        self.same_top1 += int(np.equal(*top1).sum())
        self.samples += len(x)
        return exact[output]

    def _float_values(self, x: Tensor) -> dict[str, NDArray[np.float32]]:
        values: dict[str, NDArray[np.float32]] = {}

        def keep(node: Node, value: Tensor) -> Tensor:
            if node.name in self._counts:
                values[node.name] = value.numpy()
            return value

        with torch.inference_mode():
            execute(self._quantized.graph, x, keep)
        return values

    def layers(self) -> tuple[LayerParity, ...]:
        """The table, in execution order."""
        accumulators = layer_accumulators(self._program)
        return tuple(
            LayerParity(
                name=name,
                op=self._quantized.graph[name].op,
                simulated_minus_integer=_histogram(counts.simulated),
                reference_minus_backend=_histogram(counts.backend),
                sqnr_db=sqnr_db(counts.signal, counts.noise),
                accumulator=accumulators.get(name),
            )
            for name, counts in self._counts.items()
        )
