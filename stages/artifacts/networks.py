"""The network in float and as quantized."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors.torch import load_file, save_file

from stages.graph.cost import multiply_accumulates
from stages.graph.ir import Graph
from stages.graph.quantized import QuantizedGraph
from stages.graph.serialize import load_graph, save_graph
from stages.quant.qparams import QParams

NARROWED = "narrowed.json"


@dataclass(frozen=True, kw_only=True)
class NarrowedLayer:
    """A layer of a network that has lost channels, whether or not it is one of those that lost any.

    Args:
        name: its name.
        channels: that it writes, before and after.
        operations: multiply-accumulates of one sample, before and after.
    """

    name: str
    channels: tuple[int, int]
    operations: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class FloatModel:
    """The trained network as captured, BatchNorm not folded.

    Args:
        graph: the network.
        narrowed: what became of its layers where channels were left out of it; empty where none were.
    """

    kind: ClassVar[str] = "float_model"
    graph: Graph
    narrowed: tuple[NarrowedLayer, ...] = ()

    def save(self, directory: Path) -> None:
        """Write graph.json and params.safetensors, and narrowed.json where there is something to say."""
        save_graph(self.graph, directory)
        if self.narrowed:
            (directory / NARROWED).write_text(json.dumps([asdict(layer) for layer in self.narrowed]))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        file = directory / NARROWED
        rows = json.loads(file.read_text()) if file.exists() else []
        layers = (
            NarrowedLayer(
                name=row["name"], channels=tuple(row["channels"]), operations=tuple(row["operations"])
            )
            for row in rows
        )
        return cls(graph=load_graph(directory), narrowed=tuple(layers))

    def metrics(self) -> dict[str, float]:
        """``model/float_bytes``: the parameters that it uses, shared ones once, at 4 bytes each.

        ``model/float_macs``: multiply-accumulates of its layers and products of matrices, for one sample.
        """
        used = {key for node in self.graph.nodes for key in node.params.values()}
        count = sum(self.graph.params[key].numel() for key in used)
        return {
            "model/parameters": float(count),
            "model/float_bytes": 4.0 * count,
            "model/float_macs": float(sum(multiply_accumulates(self.graph).values())),
        }


@dataclass(frozen=True, kw_only=True)
class QuantizedModel:
    """The network with the scales and zero points chosen for it; simulated and lowered from here."""

    kind: ClassVar[str] = "quantized_model"
    quantized: QuantizedGraph

    def save(self, directory: Path) -> None:
        """Write the graph, ``qparams.json`` and ``qparams.safetensors``."""
        save_graph(self.quantized.graph, directory)
        tensors: dict[str, torch.Tensor] = {}
        groups: dict[str, dict[str, Any]] = {"activations": {}, "weights": {}}
        for group, chosen in groups.items():
            for name, qparams in getattr(self.quantized, group).items():
                tensors[f"{group}|{name}|scale"] = qparams.scale
                tensors[f"{group}|{name}|zero_point"] = qparams.zero_point
                fields = ("quant_min", "quant_max", "ch_axis", "group_size")
                chosen[name] = {field: getattr(qparams, field) for field in fields}
        for group in ("levels", "biases"):
            chosen_tensors: Mapping[str, torch.Tensor] = getattr(self.quantized, group)
            tensors |= {f"{group}|{name}": t.contiguous() for name, t in chosen_tensors.items()}
        save_file(tensors, directory / "qparams.safetensors")
        document = {**groups, "floats": sorted(self.quantized.floats)}
        (directory / "qparams.json").write_text(json.dumps(document))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        tensors = load_file(directory / "qparams.safetensors")
        document = json.loads((directory / "qparams.json").read_text())

        def group(kind: str) -> dict[str, QParams]:
            return {
                name: QParams(
                    scale=tensors[f"{kind}|{name}|scale"],
                    zero_point=tensors[f"{kind}|{name}|zero_point"],
                    **levels,
                )
                for name, levels in document[kind].items()
            }

        def beside(kind: str) -> dict[str, torch.Tensor]:
            prefix = f"{kind}|"
            return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}

        return cls(
            quantized=QuantizedGraph(
                graph=load_graph(directory),
                activations=group("activations"),
                weights=group("weights"),
                floats=frozenset(document["floats"]),
                levels=beside("levels"),
                biases=beside("biases"),
            )
        )
