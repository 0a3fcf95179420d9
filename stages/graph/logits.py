"""Probabilities at the end of a network as the logits that they are made of.

``softmax`` and ``log_softmax`` over the classes keep the order of classes: top-1, and all that ranks, is the
logits'. As levels they would say less, since most probabilities are near 0.
"""

from __future__ import annotations

from dataclasses import replace

from stages.graph.ir import Graph, Node

_FUNCTIONS = ("softmax", "log_softmax", "_softmax", "_log_softmax", "special_softmax", "special_log_softmax")


def without_last_softmax(graph: Graph) -> tuple[Graph, str]:
    """The network to its logits (N, classes), and the function that was left out, '' where there is none."""
    node = graph[graph.output]
    function = _function(node)
    if function not in _FUNCTIONS or len(node.shape) != 1 or node.clamps:
        return graph, ""
    source = node.inputs[0]
    nodes = tuple(own for own in graph.nodes if own.name != node.name)
    if graph[source].op == "input":
        return graph, ""
    return replace(graph, nodes=nodes, output=source), function.removeprefix("_")


def _function(node: Node) -> str:
    """The operator, by ATen's name where it is kept as it was traced."""
    calls = node.attrs.get("calls", ())
    if node.op != "aten":
        return node.op
    return str(calls[0][0]).partition(".")[0] if len(calls) == 1 else ""
