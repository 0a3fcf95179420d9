"""Graphs on disk: ``graph.json`` for the nodes, ``params.safetensors`` for the parameters."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from stages.graph.ir import Graph, Node


def save_graph(graph: Graph, directory: Path) -> None:
    """Write the graph's two files into `directory`."""
    document = {
        "output": graph.output,
        "nodes": [asdict(node) for node in graph.nodes],
        "frozen": sorted(graph.frozen),
        "pruned": sorted(graph.pruned),
    }
    (directory / "graph.json").write_text(json.dumps(document))
    used = {key for node in graph.nodes for key in node.params.values()}
    save_file({key: graph.params[key].contiguous() for key in sorted(used)}, directory / "params.safetensors")


def load_graph(directory: Path) -> Graph:
    """Read what `save_graph` wrote, bit for bit."""
    document = json.loads((directory / "graph.json").read_text())
    nodes = tuple(Node(**{key: _tuples(value) for key, value in node.items()}) for node in document["nodes"])
    return Graph(
        nodes=nodes,
        params=load_file(directory / "params.safetensors"),
        output=document["output"],
        frozen=frozenset(document["frozen"]),
        pruned=frozenset(document["pruned"]),
    )


def _tuples(value: Any) -> Any:
    """JSON has lists where the graph has tuples."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value
