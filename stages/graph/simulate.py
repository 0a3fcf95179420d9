"""The simulation: a program computed by torch, on levels.

The simulated network *is* the program: each value is what its integers are, in every layer and in every mode
of requantization. Values are held as centred levels ``q − zero_point``, whole numbers in float32, on which
sums of products are exact (`stages.graph.operators.layers`). An operator whose module has no level function
of its own is computed by the reference kernel itself.

Where activations stay float there are no integers, and `WeightsOnly` is the network over its rounded weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.data.batches import channels_last
from stages.graph.execute import execute, pre_activation
from stages.graph.ir import Node
from stages.graph.lower import lower
from stages.graph.operators.operator import LevelFunction
from stages.graph.operators.registry import level_functions, operators
from stages.graph.quantized import QuantizedGraph
from stages.integer.interpreter import dequantize_output, last_read, quantize_input
from stages.integer.kernel import has_profile, prepare_kernel
from stages.integer.program import Integers, Op, Program, Requantize, Value


class Simulation:
    """A program in torch, prepared once: ``simulation(x) -> logits``."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._steps = [level_function(op, program) for op in program.ops]
        self._dead = last_read(program)

    def __call__(self, x: Tensor) -> Tensor:
        """Float `x` (N, *input shape) to the output's real values, float32."""
        output = self.program.output
        c = self._run(x)[output]
        return torch.from_numpy(dequantize_output(self.program, integers(c, self.program.values[output])))

    def centred(self, x: Tensor) -> dict[str, Tensor]:
        """The centred levels of every value by name, float32."""
        values: dict[str, Tensor] = {}
        self._run(x, values.__setitem__)
        return values

    def trace(self, x: Tensor) -> dict[str, Integers]:
        """The levels of every value by name, the input included, in order of execution."""
        levels: dict[str, Integers] = {}

        def keep(name: str, c: Tensor) -> None:
            levels[name] = integers(c, self.program.values[name])

        self._run(x, keep)
        return levels

    def _run(self, x: Tensor, see: Callable[[str, Tensor], None] = lambda name, c: None) -> dict[str, Tensor]:
        program = self.program
        q = quantize_input(program, x.detach().cpu().numpy())
        values = {program.input: channels_last(centred(q, program.values[program.input]))}
        see(program.input, values[program.input])
        with torch.inference_mode():
            for op, step, dead in zip(program.ops, self._steps, self._dead, strict=True):
                values[op.output] = step(*(values[name] for name in op.inputs))
                see(op.output, values[op.output])
                for name in dead:
                    del values[name]
        return values


def level_function(op: Op, program: Program) -> LevelFunction:
    """An operator of `program` on centred levels."""
    if has_profile(op, program):
        return _by_kernel(op, program)
    if prepare := level_functions().get(op.op):
        return prepare(op, program)
    moved = operators().get(op.op)
    if moved is not None and moved.kind == "moves" and not _may_be_empty(op):
        return partial(moved.value, op.attrs, {})
    return _by_kernel(op, program)


def centred(q: Integers, value: Value) -> Tensor:
    """Levels to centred levels, float32, in the memory order of `q`."""
    c: NDArray[np.float32] = q.astype(np.float32)
    c -= np.float32(value.zero_point)
    return torch.from_numpy(c)


def integers(c: Tensor, value: Value) -> Integers:
    """Centred levels to levels."""
    q: Integers = (c.detach().cpu() + value.zero_point).numpy().astype(value.dtype)
    return q


def _by_kernel(op: Op, program: Program) -> LevelFunction:
    kernel = prepare_kernel(op, program)
    operands = [program.values[name] for name in op.inputs]
    output = program.values[op.output]

    def run(*c: Tensor) -> Tensor:
        q = kernel(*(integers(one, value) for one, value in zip(c, operands, strict=True)))
        return centred(q, output).to(c[0].device)

    return run


def _may_be_empty(op: Op) -> bool:
    """Whether a window may lie in padding alone: torch gives −∞ for it, the kernel the least level."""
    return any(d > 1 for d in op.attrs.get("dilation", ())) and any(op.attrs["padding"])


def simulation_of(quantized: QuantizedGraph, requantize: Requantize = "float") -> Callable[[Tensor], Tensor]:
    """The network's program in torch, or, where activations stay float, the network over rounded weights."""
    return Simulation(lower(quantized, requantize)) if quantized.activations else WeightsOnly(quantized)


class WeightsOnly:
    """A network whose weights alone are quantized: ``simulation(x) -> logits`` in float32."""

    def __init__(self, quantized: QuantizedGraph) -> None:
        self._graph = quantized.graph
        self._params = {name: quantized.layer_params(self._graph[name]) for name in quantized.weights}

    def __call__(self, x: Tensor) -> Tensor:
        """Float `x` (N, *input shape) to the output's real values, float32."""
        return execute(self._graph, x, layer=self._layer)

    def _layer(self, node: Node, *operands: Tensor) -> Tensor:
        weight, bias = self._params.get(node.name) or (
            self._graph.params[node.params["weight"]],
            self._graph.param(node, "bias"),
        )
        return pre_activation(node, weight, bias, *operands)
