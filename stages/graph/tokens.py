"""Numbers of tokens: inputs that an embedding reads, which no scale may round."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from stages.graph.ir import Graph
from stages.graph.points import sources
from stages.quant.qparams import QParams


def token_counts(graph: Graph) -> Mapping[str, int]:
    """By input that embeddings read, as it is or moved: how many tokens all of them know."""
    source, found = sources(graph), dict[str, int]()
    for node in graph.nodes:
        if node.op == "embedding" and graph[name := source[node.inputs[0]]].op == "input":
            rows = len(graph.params[node.params["table"]])
            found[name] = min(rows, found.get(name, rows))
    return found


def token_qparams(count: int) -> QParams:
    """Levels that are the numbers 0 … count − 1 themselves."""
    zero = torch.zeros((), dtype=torch.int32)
    return QParams(scale=torch.ones(()), zero_point=zero, quant_min=0, quant_max=count - 1)
