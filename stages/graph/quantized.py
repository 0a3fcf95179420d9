"""A quantized network: its graph, and the grids and levels chosen for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from pipeline.errors import PipelineError
from stages.graph.ir import Graph, Node
from stages.graph.points import sources
from stages.quant.qparams import QParams, dequantize, quantize
from stages.quant.weights import dequantize_bias, quantize_bias


@dataclass(frozen=True, kw_only=True)
class QuantizedGraph:
    """A folded, fused graph with float parameters, and the quantization parameters chosen for it.

    Args:
        graph: the network, BatchNorm folded, fused.
        activations: parameters by quantization point (`stages.graph.points.quantization_points`); empty where
            all values but weights stay float, which the simulation alone can compute.
        weights: parameters by layer name; a layer that is not among them stays float.
        floats: nodes, other than layers, that are computed by their float function, between integers.
        levels: int8 weights by layer name, the weight's shape, where something better than rounding to
            nearest chose them: a quantizer, a correction. Simulation and program both hold these.
        biases: float32 (O,) by layer name, where a correction changed the bias, or gave it one. The graph
            keeps its own, so that it remains the float network.
    """

    graph: Graph
    activations: Mapping[str, QParams]
    weights: Mapping[str, QParams]
    floats: frozenset[str] = frozenset()
    levels: Mapping[str, Tensor] = field(default_factory=dict)
    biases: Mapping[str, Tensor] = field(default_factory=dict)

    def qparams(self, name: str) -> QParams:
        """The parameters of any value, its own or those of the value it was moved from.

        Raises:
            PipelineError: the value stays float.
        """
        source = sources(self.graph)[name]
        if source not in self.activations:
            raise PipelineError(
                f"'{source}' stays float (quantizer.activation=null): there are no integer kernels for "
                "integer weights on float values. Remedy: backend=simulation"
            )
        return self.activations[source]

    def integer_weight(self, node: Node) -> Tensor:
        """A layer's weight as levels, int8, the weight's shape: those chosen for it, else the nearest."""
        if node.name in self.levels:
            return self.levels[node.name]
        return quantize(self.graph.params[node.params["weight"]], self.weights[node.name])

    def real_bias(self, node: Node) -> Tensor | None:
        """A layer's bias as corrected, float32 (O,); None where it has none."""
        return self.biases.get(node.name, self.graph.param(node, "bias"))

    def integer_bias(self, node: Node) -> Tensor | None:
        """A layer's bias in int32 steps of input scale × weight scale, (O,); None where it has none."""
        bias = self.real_bias(node)
        if bias is None:
            return None
        return quantize_bias(bias, self.qparams(node.inputs[0]).scale, self.weights[node.name].bias_scale)

    def layer_params(self, node: Node) -> tuple[Tensor, Tensor | None]:
        """A layer's weight and bias as the real values that the integers stand for, float32.

        Those of the network, where the layer stays float.
        """
        qparams = self.weights.get(node.name)
        if qparams is None:
            return self.graph.params[node.params["weight"]], self.real_bias(node)
        weight = dequantize(self.integer_weight(node), qparams)
        if not self.activations:  # no accumulator in whose steps a bias would be
            return weight, self.real_bias(node)
        bias = self.integer_bias(node)
        if bias is None:
            return weight, None
        return weight, dequantize_bias(bias, self.qparams(node.inputs[0]).scale, qparams.bias_scale)
