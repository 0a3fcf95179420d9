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

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Self, cast

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.graph.dropout import put_back, taken_out
from stages.graph.fold import attach_batch_norm, fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Graph, Node
from stages.graph.lower import lower
from stages.graph.points import layers, sources, weight_name
from stages.graph.quantized import QuantizedGraph
from stages.graph.schemes import arranged, resolve_schemes
from stages.graph.simulate import Simulation
from stages.integer.program import Requantize
from stages.quant.estimators.base import Estimator, Extremes, FakeQuantizer, ObservesRange
from stages.quant.estimators.scheme import start_of
from stages.quant.quantizers.base import (
    Dithers,
    Quantizer,
    SharesLevels,
    Uneven,
    WeightsAndActivations,
)
from stages.quant.weights import fit_bias, weight_levels
from stages.training.qat_forward import Forward, on_cpu
from stages.training.qat_layer import BatchNorm, Dither, Phase, QatLayer
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
            shares = own if isinstance(own, SharesLevels) else None
            nearest = own.nearest if isinstance(own, Uneven) else None
            dither = _dither(own, weight_name(node))
            layer = QatLayer(node, tensors, estimator, start, dither, batch_norm, shares, nearest)
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
        activations = {name: on_cpu(self._activation(name).qparams()) for name in points}
        weights, levels = {}, {}
        for layer in self._layers():
            if layer.quantizer is None:
                continue
            node = graph[layer.node.name]
            weight = graph.params[node.params["weight"]]
            input_scale = activations[self._sources[node.inputs[0]]].scale
            qparams = on_cpu(layer.qparams())
            weights[node.name] = fit_bias(qparams, weight, graph.param(node, "bias"), input_scale)
            chosen = layer.shared_levels(weights[node.name])
            if chosen is None:
                own = self._schemes.weights[node.name]
                chosen = weight_levels(own, weight, weights[node.name], weight_name(node))
            if chosen is not None:
                levels[node.name] = chosen
        return QuantizedGraph(
            graph=graph,
            activations=activations,
            weights=weights,
            floats=self._schemes.floats,
            levels=levels,
        )

    def observe_with(self, shared: Extremes) -> None:
        """Let values' observed ranges be those of all ranks' samples; a weight is the same on each."""
        for quantizer in self.activations.values():
            if isinstance(quantizer, ObservesRange):
                quantizer.shared = shared

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
        drops = self._drops and self.training and not initialize
        deploys = phase == replace(DEPLOYED, draw=phase.draw) and not drops
        given: dict[str, Tensor] = {}
        if deploys and self._requantize != "float":  # every value, as fixed point rounds it
            levels = Simulation(lower(self.quantized(), self._requantize)).centred(x)
            given = {name: c.to(x.device) for name, c in levels.items()}
        points = dict.fromkeys(self._sources.values())
        run = Forward(
            graph=self._executed.with_params(self._unquantized()),
            layers={layer.node.name: layer for layer in self._layers()},
            quantizers={name: self._activation(name) for name in points},
            dithers={name: _dither(self._schemes.activations[name], name) for name in points},
            sources=self._sources,
            floats=self._schemes.floats,
            relu=self._relu,
            phase=phase,
            drops=drops,
            given=given,
            finds_levels=deploys and self._requantize == "float",
        )
        return run(x, initialize=initialize)

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


def _escape(name: str) -> str:
    """torch allows no dots in the names of modules."""
    return name.replace(".", "/")
