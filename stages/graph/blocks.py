"""Blocks: the parts of a network between which a single value passes.

Between two nodes in execution order there is a cut where one value alone, of those that layers have made, is
still to be read. What lies between two cuts is a *part*: a residual block, from the split to the sum; the
attention of a transformer, or its MLP; a layer of a chain. Values that no layer has made and none reads
(constants, masks) cross any cut.

A part without a layer (a pool, a copy of a residual stream) belongs to the next. An inverted residual without
a shortcut is a chain, whose layers are put together again: a depthwise convolution takes the pointwise
convolution that reads it, and the one before where that expands.
"""

from __future__ import annotations

from stages.graph.ir import Graph, Node
from stages.graph.operators.registry import is_layer

Block = tuple[Node, ...]
"""Nodes in a row."""


def blocks(graph: Graph, largest: int) -> tuple[Block, ...]:
    """All nodes but the input, in execution order, in blocks.

    Args:
        graph: the network, fused.
        largest: most layers of a block; a part that has more is divided layer by layer.

    Returns:
        Blocks of at least one layer each, where the network has any.
    """
    parts: list[Block] = []
    for part in _joined(graph, _with_layers(_parts(graph))):
        parts.extend([part] if _count(part) <= largest else _by_layer(part))
    return tuple(parts)


def _parts(graph: Graph) -> list[Block]:
    """The nodes between two cuts."""
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    last[graph.output] = len(graph.nodes)
    passing = _passing(graph)
    parts: list[Block] = []
    live = {graph.input.name}
    start = 1
    for i, node in enumerate(graph.nodes[1:], 1):
        live.add(node.name)
        live = {name for name in live if last.get(name, i) > i}
        if len(live - passing) == 1:
            parts.append(graph.nodes[start : i + 1])
            start = i + 1
    rest = graph.nodes[start:]
    return [*parts, rest] if rest else parts


def _passing(graph: Graph) -> set[str]:
    """The values that no layer has made, and none reads."""
    made = {graph.input.name}
    for node in graph.nodes:
        if not is_layer(node) and all(name in made for name in node.inputs):
            made.add(node.name)
    return made - {name for node in graph.nodes if is_layer(node) for name in node.inputs}


def _with_layers(parts: list[Block]) -> list[Block]:
    """Parts that have a layer, each with those before it that have none; what is left behind the last."""
    found: list[Block] = []
    waiting: Block = ()
    for part in parts:
        waiting += part
        if _count(waiting):
            found.append(waiting)
            waiting = ()
    if waiting:
        found[-1:] = [(found[-1] if found else ()) + waiting]
    return found


def _joined(graph: Graph, parts: list[Block]) -> list[Block]:
    """Depthwise convolutions put together with the pointwise ones around them."""
    found: list[Block] = []
    behind_depthwise = False
    for part in parts:
        kind = _kind(graph, part)
        expanded = kind == "depthwise" and found and _kind(graph, found[-1]) == "expands"
        if expanded or (behind_depthwise and kind in ("pointwise", "expands")):
            part = found.pop() + part
        found.append(part)
        behind_depthwise = kind == "depthwise"
    return found


def _kind(graph: Graph, part: Block) -> str:
    """What kind of convolution is all of a part's layers; empty for any other part."""
    layers = [node for node in part if is_layer(node)]
    if len(layers) != 1:
        return ""
    (layer,) = layers
    if layer.op != "conv2d" or len(layer.inputs) > 1:
        return ""
    outputs, inputs, *window = graph.params[layer.params["weight"]].shape
    groups = layer.attrs["groups"]
    if groups > 1:
        return "depthwise" if inputs == 1 else ""
    if max(window) > 1:
        return ""
    return "expands" if outputs > inputs else "pointwise"


def _by_layer(part: Block) -> list[Block]:
    """The part divided behind each of its layers, what follows the last with it."""
    return _with_layers([(node,) for node in part])


def _count(part: Block) -> int:
    return sum(map(is_layer, part))
