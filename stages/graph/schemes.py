"""Which quantizer each layer's weight and each computed value gets: the rules of `quantizer`, resolved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pipeline.errors import PipelineError
from stages.graph.ir import Graph
from stages.graph.operators.registry import operator
from stages.graph.points import layers, quantization_points, sources
from stages.graph.residual import residual_stream, with_copies
from stages.quant.quantizers.base import LayerRule, Quantizer, WeightsAndActivations


@dataclass(frozen=True, kw_only=True)
class Schemes:
    """The quantizers of a network.

    Args:
        weights: by layer name; layers that stay float are left out.
        activations: by quantization point; those that stay float are left out.
        floats: nodes, other than layers, that are computed in float, between integers.
    """

    weights: Mapping[str, Quantizer]
    activations: Mapping[str, Quantizer]
    floats: frozenset[str] = frozenset()


def arranged(quantizer: WeightsAndActivations, graph: Graph) -> Graph:
    """The fused network as the quantizer rounds it: layers read copies of a stream with bits of its own."""
    return graph if quantizer.residual_bits is None else with_copies(graph, quantizer.residual_bits)


def resolve_schemes(quantizer: WeightsAndActivations, graph: Graph) -> Schemes:
    """Apply the rules to a folded, fused, `arranged` network.

    Raises:
        PipelineError: a pattern that matches nothing; lists the names.
    """
    weights = dict.fromkeys(layers(graph), quantizer.weight)
    activations: dict[str, Quantizer] = {}
    if quantizer.activation is not None:
        activations = dict.fromkeys(quantization_points(graph), quantizer.activation)
        if quantizer.residual_bits is not None:
            wide = quantizer.usual("activation", quantizer.residual_bits)
            activations.update(dict.fromkeys(residual_stream(graph, quantizer.residual_bits), wide))
    if quantizer.first_last_bits is not None and weights:
        source, order = sources(graph), list(weights)
        for name in (order[0], order[-1]):
            weights[name] = quantizer.usual("weight", quantizer.first_last_bits)
        outer = (*(source[graph[name].inputs[0]] for name in (order[0], order[-1])), source[graph.output])
        for name in outer if activations else ():
            activations[name] = quantizer.usual("activation", quantizer.first_last_bits)
    kept_float: set[str] = set()
    computing = tuple(node.name for node in graph.nodes if operator(node).kind in ("layer", "computes"))
    for pattern, rule in (quantizer.layers or {}).items():
        if rule == "float":
            kept_float |= _matches(pattern, rule, computing)
            continue
        for role, chosen in (("weight", weights), ("activation", activations)):
            if role in rule:
                choice = rule[role]
                own = quantizer.usual(role, choice) if isinstance(choice, int) else choice
                matched = _matches(pattern, rule, chosen)
                chosen.update(dict.fromkeys(matched, own))
                kept_float -= matched if role == "weight" else set()
    return Schemes(
        weights={name: own for name, own in weights.items() if name not in kept_float},
        activations=activations,
        floats=frozenset(kept_float.difference(layers(graph))),
    )


def _matches(pattern: str, rule: LayerRule, names: Iterable[str]) -> set[str]:
    """The names that the pattern matches, at least one."""
    found = {name for name in names if fnmatchcase(name, pattern)}
    if not found:
        kind = "layer" if rule == "float" or "weight" in rule else "value"
        raise PipelineError(
            f"quantizer.layers: the pattern '{pattern}' matches no {kind}. Remedy: one of "
            f"{', '.join(names)}, or a pattern of them"
        )
    return found
