"""One pass through a network in quantization-aware training.

Where the phase rounds, values are centred levels. Layers and sums are computed by the program's own
arithmetic, whole numbers times its ratio of scales, so that rounding what they give is what the integers do.
A table, 64-bit integers and a layer that stays float are not: in deployment their levels are those of the
program's operator, and the gradient is that of the float function. Where fixed point rounds, the levels of
all values are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.graph.execute import activate, execute
from stages.graph.ir import Graph, Node
from stages.graph.lower import lower_node, value_of
from stages.graph.operators.dropout import drop
from stages.graph.operators.registry import is_layer, is_opaque, level_functions, moves, operator
from stages.graph.quantized import QuantizedGraph
from stages.graph.simulate import level_function
from stages.integer.program import Op, Program
from stages.quant.estimators.base import FakeQuantizer
from stages.quant.qparams import QParams
from stages.training.qat_layer import Dither, Grids, Phase, QatLayer


@dataclass(frozen=True, kw_only=True)
class Forward:
    """What a pass goes through, as it stands.

    Args:
        graph: as executed, with the parameters of operators that are no layers.
        layers: by name.
        quantizers: of values, by quantization point.
        dithers: by quantization point, the noise of a quantizer that rounds by chance; None for the others.
        sources: for every value, the quantization point whose grid it has.
        floats: nodes, other than layers, that are computed in float.
        relu: the points whose ReLU is left to their quantizer.
        phase: what to do.
        drops: whether dropout drops.
        given: centred levels of values, by name, where rounding here would not give them.
        finds_levels: whether to find the levels that rounding does not give, by the program's operators.
    """

    graph: Graph
    layers: Mapping[str, QatLayer]
    quantizers: Mapping[str, FakeQuantizer]
    dithers: Mapping[str, Dither | None]
    sources: Mapping[str, str]
    floats: frozenset[str]
    relu: frozenset[str]
    phase: Phase
    drops: bool
    given: dict[str, Tensor]
    finds_levels: bool

    def __call__(self, x: Tensor, *, initialize: bool = False) -> Tensor:
        """Float32 (N, *input shape) to the output's reals; `initialize`: quantizers choose their ranges."""

        def point(node: Node, value: Tensor) -> Tensor:
            if self.sources[node.name] != node.name:
                return value
            if initialize:
                self.quantizers[node.name].initialize(value)
            return self._rounded(node, value)

        y = execute(self.graph, x, point, step=self._compute)
        return y * self._grid(self.graph.output).scale if self.phase.quantize else y

    def _compute(self, node: Node, *operands: Tensor) -> Tensor:
        """A node's value before it is rounded: in steps of its scale where the phase rounds, else real."""
        if node.op == "dropout":
            return drop(node, *operands) if self.drops else operands[0]
        stays_float = is_layer(node) and self.layers[node.name].quantizer is None
        opaque = is_opaque(node) or node.name in self.floats
        if self.finds_levels and (opaque or stays_float):
            op, program = self._lowered(node)
            with torch.no_grad():
                self.given[node.name] = level_function(op, program)(*(c.detach() for c in operands))
        if is_layer(node):
            return self._layer(node, operands)
        if not self.phase.quantize or moves(node):
            return activate(node, operator(node).value(node.attrs, self.graph.roles(node), *operands))
        scale = self._grid(node.name).scale
        if not opaque:
            op, program = self._lowered(node)
            return _clamped(node, level_functions()[op.op](op, program).terms(*operands), scale)
        reals = (c * self._grid(name).scale for c, name in zip(operands, node.inputs, strict=True))
        return activate(node, operator(node).value(node.attrs, self.graph.roles(node), *reals)) / scale

    def _layer(self, node: Node, operands: Sequence[Tensor]) -> Tensor:
        x, y = self._grid(node.inputs[0]), self._grid(node.name)
        zero_point = int(x.zero_point)
        grids = Grids(
            input_scale=x.scale,
            input_levels=(x.quant_min - zero_point, x.quant_max - zero_point),
            output_scale=y.scale,
        )
        value: Tensor = self.layers[node.name](operands[0], self.phase, grids)
        for dropout in node.attrs.get("dropout", ()) if self.drops else ():
            value = drop(dropout, value)
        for name, residual in zip(node.inputs[1:], operands[1:], strict=True):
            if self.phase.quantize:  # s_r / s_y as the program holds it
                residual = residual * (self._grid(name).scale.double() / y.scale.double()).float()
            value = value.add_(residual)
        return _clamped(node, value, y.scale) if self.phase.quantize else activate(node, value)

    def _rounded(self, node: Node, value: Tensor) -> Tensor:
        """The value of a quantization point as its readers read it."""
        quantizer = self.quantizers[node.name]
        if not self.phase.quantize:
            if self.phase.observe:
                quantizer.observe(value)
            return F.relu(value) if node.name in self.relu else value
        scale = self._grid(node.name).scale
        if not node.inputs:
            value = value / scale
        if self.phase.observe:
            quantizer.observe(value, scale)
        dither = self.dithers[node.name]
        if dither is not None and self.phase.draw:  # activations of a finished network round to nearest
            return quantizer.levels(dither(value, torch.ones_like(scale), self.phase.draw))
        return quantizer.levels(value, self.given.get(node.name))

    @torch.no_grad()
    def _lowered(self, node: Node) -> tuple[Op, Program]:
        """A node's operator as it stands, in a program of its own."""
        params = {key: self.graph.params[key].detach().cpu() for key in node.params.values()}
        biases = {}
        if is_layer(node):
            weight, bias = self.layers[node.name].folded()
            params[node.params["weight"]] = weight.cpu()
            biases = {} if bias is None else {node.name: bias.cpu()}
        own = QuantizedGraph(
            graph=self.graph.with_params(params),
            activations={name: on_cpu(grid) for name, grid in self._grids.items()},
            weights={},
            floats=self.floats,
            biases=biases,
        )
        values = {name: value_of(own, self.graph[name]) for name in (*node.inputs, node.name)}
        op = lower_node(own, node, values)
        first = node.inputs[0]
        return op, Program(values=values, ops=(op,), input=first, output=node.name, requantize="float")

    @cached_property
    def _grids(self) -> dict[str, QParams]:
        return {name: quantizer.qparams() for name, quantizer in self.quantizers.items()}

    def _grid(self, name: str) -> QParams:
        """The grid of any value."""
        return self._grids[self.sources[name]]


def on_cpu(qparams: QParams) -> QParams:
    """The same parameters on the CPU."""
    return replace(qparams, scale=qparams.scale.cpu(), zero_point=qparams.zero_point.cpu())


def _clamped(node: Node, v: Tensor, scale: Tensor) -> Tensor:
    """A value in steps of `scale`, between the node's bounds."""
    if not node.clamps:
        return v
    low, high = (None if bound is None else bound / scale for bound in (node.clamp_min, node.clamp_max))
    return torch.clamp(v, low, high)
