"""Quantization-aware training of a graph: the program's arithmetic, with parameters that learn.

Values are centred levels and gradients are those of the estimators (`stages.quant.estimators.base`). Once
BatchNorm rests, the forward pass gives what the deployed integers will, to the bit. The network has the
nodes and names of the folded, fused graph, and keeps BatchNorm beside each layer
(`stages.training.qat_layer`). A ReLU that is fused into a node is left to the node's quantizer, whose lowest
level becomes that of 0.0: rounding then takes the place of ReLU instead of following it.

Where the module drops values in training, so does the network, behind the rounding: what is dropped is no
longer what integers hold, and a forward pass that drops is not to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.graph.dropout import put_back, taken_out
from stages.graph.execute import activate, execute
from stages.graph.fold import attach_batch_norm, fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Graph, Node
from stages.graph.lower import lower, lower_node, value_of
from stages.graph.operators.dropout import drop
from stages.graph.operators.registry import is_layer, is_opaque, level_functions, moves, operator
from stages.graph.points import layers, sources, weight_name
from stages.graph.quantized import QuantizedGraph
from stages.graph.schemes import arranged, resolve_schemes
from stages.graph.simulate import Simulation, level_function
from stages.integer.program import Op, Program, Requantize
from stages.quant.estimators.base import Estimator, FakeQuantizer
from stages.quant.estimators.scheme import start_of
from stages.quant.qparams import QParams
from stages.quant.quantizers.base import Dithers, Quantizer, WeightsAndActivations
from stages.quant.weights import fit_bias, weight_levels
from stages.training.qat_layer import BatchNorm, Dither, Grids, Phase, QatLayer
from stages.training.qat_start import check_same_network, tensors_of, trainable

DEPLOYED = Phase()
"""What the integer program will do; evaluation mode."""


class QatNetwork(nn.Module):
    """A network in quantization-aware training.

    Args:
        model: the float network as captured, BatchNorm not folded.
        quantized: its calibrated form.
        quantizer: the schemes that calibrated it.
        estimator: the backward pass of rounding.
        batch_norm: ``corrected`` or ``naive`` folding in phases with batch statistics; ``frozen`` has none.
        requantize: how the deployed program rounds; the forward pass of deployment rounds so too.

    Raises:
        PipelineError: `quantized` is not the folded, fused `model`, or a quantizer cannot round in training.
    """

    def __init__(
        self,
        model: Graph,
        quantized: QuantizedGraph,
        quantizer: WeightsAndActivations,
        estimator: Estimator,
        *,
        batch_norm: BatchNorm = "corrected",
        requantize: Requantize = "float",
    ) -> None:
        super().__init__()
        self.phase = DEPLOYED
        self._requantize: Requantize = requantize
        attached = attach_batch_norm(model)
        self._graph = arranged(quantizer, fuse(attached))
        check_same_network(self._graph, quantized.graph)
        _, dropouts = taken_out(fuse(attached, keep_dropout=True))
        self._executed = _without_relu(put_back(self._graph, dropouts))
        self._drops = bool(dropouts.nodes or dropouts.layers)
        self._sources = sources(self._executed)
        self._relu = frozenset(node.name for node in self._graph.nodes if _is_relu(node))
        self.layers = nn.ModuleDict()
        self._schemes = trainable(resolve_schemes(quantizer, quantized.graph))
        tensors = tensors_of(self._graph)
        for name in layers(self._graph):
            own = self._schemes.weights.get(name)  # None: the layer stays float
            if own is not None and quantized.weights[name].group_size is not None:
                raise PipelineError(
                    f"'{name}': scales of groups are not trained. Remedy: granularity=per_channel, or "
                    "training=post_training"
                )
            start = None if own is None else start_of(quantized.weights[name], own)
            node = self._graph[name]
            layer = QatLayer(node, tensors, estimator, start, _dither(own, weight_name(node)), batch_norm)
            layer.share_quantizer(o for o in self._layers() if self._schemes.weights.get(o.node.name) == own)
            self.layers[_escape(name)] = layer
        self.unquantized = nn.ParameterDict(
            {
                _escape(key): tensors[key]
                for node in self._graph.nodes
                if "weight" not in node.params
                for key in node.params.values()
            }
        )
        self.activations = nn.ModuleDict()
        for name, qparams in quantized.activations.items():
            start = start_of(qparams, self._schemes.activations[name], relu=name in self._relu)
            self.activations[_escape(name)] = cast(nn.Module, estimator.activation(start))

    def forward(self, x: Tensor) -> Tensor:
        """Float32 (N, *input shape) to logits; in evaluation mode, the simulation's."""
        return self._run(x, self.phase if self.training else DEPLOYED)

    def penalty(self) -> Tensor:
        """The estimators' terms of the loss, shape ()."""
        terms = [term for quantizer in self.quantizers() if (term := quantizer.penalty()) is not None]
        return torch.stack(terms).sum() if terms else torch.zeros(())

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Let the estimators choose their starting ranges from a batch, passed through in float."""
        for layer in self._layers():
            layer.initialize()
        self._run(x, replace(self.phase, quantize=False, observe=False), initialize=True)

    @torch.no_grad()
    def quantized(self) -> QuantizedGraph:
        """The network as it stands: folded by the moving statistics, with the present grids; on the CPU."""
        params = {
            key: tensor.detach().cpu() for layer in self._layers() for key, tensor in layer.tensors().items()
        }
        params |= {key: tensor.detach().cpu() for key, tensor in self._unquantized().items()}
        graph = fold_batch_norm(replace(self._graph, params=params))
        points = [node.name for node in graph.nodes if node.name == self._sources[node.name]]
        activations = {name: _on_cpu(self._activation(name).qparams()) for name in points}
        weights, levels = {}, {}
        for layer in self._layers():
            if layer.quantizer is None:
                continue
            node = graph[layer.node.name]
            weight = graph.params[node.params["weight"]]
            input_scale = activations[self._sources[node.inputs[0]]].scale
            qparams = _on_cpu(layer.qparams())
            weights[node.name] = fit_bias(qparams, weight, graph.param(node, "bias"), input_scale)
            own = self._schemes.weights[node.name]
            if (chosen := weight_levels(own, weight, weights[node.name], weight_name(node))) is not None:
                levels[node.name] = chosen
        return QuantizedGraph(graph=graph, activations=activations, weights=weights, levels=levels)

    def estimated(self) -> Iterator[nn.Parameter]:
        """The parameters that the estimator learns: scales, clipping values."""
        for layer in self._layers():
            if layer.quantizer is not None:
                yield from cast(nn.Module, layer.quantizer).parameters()
        yield from self.activations.parameters()

    def quantizers(self) -> Iterator[FakeQuantizer]:
        """Those of weights, each once, then those of activations."""
        own = (layer.quantizer for layer in self._layers() if layer.quantizer is not None)
        yield from dict.fromkeys(own)
        yield from (self._activation(name) for name in dict.fromkeys(self._sources.values()))

    def _run(self, x: Tensor, phase: Phase, *, initialize: bool = False) -> Tensor:
        graph = self._executed.with_params(self._unquantized())
        grids = {name: self._activation(name).qparams() for name in dict.fromkeys(self._sources.values())}
        drops = self._drops and self.training and not initialize
        deploys = _deploys(phase) and not drops
        given = self._given(x) if deploys and self._requantize != "float" else {}

        def grid(name: str) -> QParams:
            return grids[self._sources[name]]

        def compute(node: Node, *operands: Tensor) -> Tensor:
            if node.op == "dropout":
                return drop(node, *operands) if drops else operands[0]
            if is_layer(node):
                if deploys and self._needs_levels(node):
                    given[node.name] = self._levels(graph, node, operands, grids)
                return self._layer(node, operands, phase, grid, drops)
            if not phase.quantize or moves(node):
                return activate(node, operator(node).value(node.attrs, graph.roles(node), *operands))
            if not is_opaque(node):
                op, program = self._lowered(graph, node, grids)
                v = level_functions()[op.op](op, program).terms(*operands)
                return _clamped(node, v, grid(node.name).scale)
            if deploys and self._needs_levels(node):
                given[node.name] = self._levels(graph, node, operands, grids)
            reals = (c * grid(name).scale for c, name in zip(operands, node.inputs, strict=True))
            y = activate(node, operator(node).value(node.attrs, graph.roles(node), *reals))
            return y / grid(node.name).scale

        def point(node: Node, value: Tensor) -> Tensor:
            if self._sources[node.name] != node.name:
                return value
            quantizer = self._activation(node.name)
            if initialize:
                quantizer.initialize(value)
            if not phase.quantize:
                if phase.observe:
                    quantizer.observe(value)
                return F.relu(value) if node.name in self._relu else value
            scale = grid(node.name).scale
            if not node.inputs:
                value = value / scale
            if phase.observe:
                quantizer.observe(value, scale)
            dither = _dither(self._schemes.activations[node.name], node.name)
            if dither is not None and phase.draw:  # activations of a finished network round to nearest
                return quantizer.levels(dither(value, torch.ones_like(scale), phase.draw))
            return quantizer.levels(value, given.get(node.name))

        y = execute(graph, x, point, step=compute)
        return y * grid(graph.output).scale if phase.quantize else y

    def _layer(
        self,
        node: Node,
        operands: Sequence[Tensor],
        phase: Phase,
        grid: Callable[[str], QParams],
        drops: bool,
    ) -> Tensor:
        """A layer's value before it is rounded, its residual added."""
        x, y = grid(node.inputs[0]), grid(node.name)
        zero_point = int(x.zero_point)
        grids = Grids(
            input_scale=x.scale,
            input_levels=(x.quant_min - zero_point, x.quant_max - zero_point),
            output_scale=y.scale,
        )
        value: Tensor = self.layers[_escape(node.name)](operands[0], phase, grids)
        for dropout in node.attrs.get("dropout", ()) if drops else ():
            value = drop(dropout, value)
        for name, residual in zip(node.inputs[1:], operands[1:], strict=True):
            if phase.quantize:  # s_r / s_y as the program holds it
                residual = residual * (grid(name).scale.double() / y.scale.double()).float()
            value = value.add_(residual)
        return _clamped(node, value, y.scale) if phase.quantize else activate(node, value)

    def _given(self, x: Tensor) -> dict[str, Tensor]:
        """The levels of all values in deployment, by the simulation."""
        levels = Simulation(lower(self.quantized(), self._requantize)).centred(x)
        return {name: c.to(x.device) for name, c in levels.items()}

    def _needs_levels(self, node: Node) -> bool:
        """Whether a node's levels in deployment are not what rounding its value gives.

        Layers and sums are computed by the program's own arithmetic; a table, or a layer that stays float, is
        not.
        """
        own = is_opaque(node) or (is_layer(node) and node.name not in self._schemes.weights)
        return own and self._requantize == "float"

    @torch.no_grad()
    def _levels(
        self, graph: Graph, node: Node, operands: Sequence[Tensor], grids: Mapping[str, QParams]
    ) -> Tensor:
        """A node's centred levels, by the program's operator."""
        op, program = self._lowered(graph, node, grids)
        return level_function(op, program)(*(c.detach() for c in operands))

    @torch.no_grad()
    def _lowered(self, graph: Graph, node: Node, grids: Mapping[str, QParams]) -> tuple[Op, Program]:
        """A node's operator as it stands, in a program of its own."""
        biases = {}
        if is_layer(node):
            weight, bias = cast(QatLayer, self.layers[_escape(node.name)]).folded()
            graph = graph.with_params({node.params["weight"]: weight})
            biases = {} if bias is None else {node.name: bias.cpu()}
        own = QuantizedGraph(
            graph=graph.with_params({key: graph.params[key].detach().cpu() for key in node.params.values()}),
            activations={name: _on_cpu(grid) for name, grid in grids.items()},
            weights={},
            biases=biases,
        )
        values = {name: value_of(own, graph[name]) for name in (*node.inputs, node.name)}
        op = lower_node(own, node, values)
        return op, Program(
            values=values, ops=(op,), input=node.inputs[0], output=node.name, requantize="float"
        )

    def _unquantized(self) -> dict[str, Tensor]:
        """Parameters of operators that are no layers (layer norms, constants), by their keys in the graph."""
        keys = (key for node in self._graph.nodes for key in node.params.values())
        return {key: self.unquantized[_escape(key)] for key in keys if _escape(key) in self.unquantized}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast as any module; layers with the same BatchNorm go on sharing its statistics."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        shared: dict[tuple[str, str], Tensor] = {}
        for layer in self._layers():
            for role, buffer in list(layer.named_buffers(recurse=False)):
                setattr(layer, role, shared.setdefault((role, layer.node.params["bn_mean"]), buffer))
        return self

    def _layers(self) -> Iterator[QatLayer]:
        for layer in self.layers.values():
            if isinstance(layer, QatLayer):
                yield layer

    def _activation(self, name: str) -> FakeQuantizer:
        """The quantizer of a value, its own or that of the value it was moved from."""
        return cast(FakeQuantizer, self.activations[_escape(self._sources[name])])


def _deploys(phase: Phase) -> bool:
    """Whether the forward pass is that of the deployed network."""
    return phase == replace(DEPLOYED, draw=phase.draw)


def _clamped(node: Node, v: Tensor, scale: Tensor) -> Tensor:
    """A value in steps of `scale`, between the node's bounds."""
    if not node.clamps:
        return v
    low, high = (None if bound is None else bound / scale for bound in (node.clamp_min, node.clamp_max))
    return torch.clamp(v, low, high)


def _is_relu(node: Node) -> bool:
    return node.clamp_min == 0.0


def _without_relu(graph: Graph) -> Graph:
    """The graph whose clamps at zero are left to the quantizers."""
    nodes = (replace(n, clamp_min=None) if _is_relu(n) else n for n in graph.nodes)
    return replace(graph, nodes=tuple(nodes))


def _dither(quantizer: Quantizer | None, name: str) -> Dither | None:
    component: object = quantizer
    if not isinstance(component, Dithers):
        return None
    return lambda x, scale, draw: component.dither(x, scale, name, draw)


def _on_cpu(qparams: QParams) -> QParams:
    return replace(qparams, scale=qparams.scale.cpu(), zero_point=qparams.zero_point.cpu())


def _escape(name: str) -> str:
    """torch allows no dots in the names of modules."""
    return name.replace(".", "/")
