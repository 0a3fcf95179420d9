"""What the float network was seen to do: on the test samples, and on the calibration samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from stages.graph.ir import Graph
from stages.graph.serialize import load_graph, save_graph
from stages.quant.outliers import abnormal
from stages.quant.statistics import Statistics


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What the float network gives for the test samples; all runs on them compare with it.

    Args:
        outputs: float32 (N, …).
        labels: (N, …), as the data has them.
        sample_ids: int64 (N,), indices into the test split, ascending.
        values: ``model/float_bytes``, ``model/parameters``, ``test/samples``, ``float/<measure>``.
    """

    kind: ClassVar[str] = "baseline"
    outputs: NDArray[np.float32]
    labels: NDArray[Any]
    sample_ids: NDArray[np.int64]
    values: Mapping[str, float]

    def save(self, directory: Path) -> None:
        """Write ``baseline.safetensors`` and ``values.json``."""
        arrays = {"outputs": self.outputs, "labels": self.labels, "sample_ids": self.sample_ids}
        save_arrays(arrays, directory / "baseline.safetensors")
        (directory / "values.json").write_text(json.dumps(dict(self.values)))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        values = json.loads((directory / "values.json").read_text())
        return cls(values=values, **load_arrays(directory / "baseline.safetensors"))

    def metrics(self) -> dict[str, float]:
        """The values."""
        return dict(self.values)


@dataclass(frozen=True, kw_only=True)
class Observations:
    """What calibration samples did in the folded, fused network: all that any calibrator needs.

    Args:
        graph: the folded, fused network that was observed.
        statistics: by quantization point.
        sample_ids: indices into the training split, in the order of observation.
    """

    kind: ClassVar[str] = "observations"
    graph: Graph
    statistics: Mapping[str, Statistics]
    sample_ids: tuple[int, ...]

    def save(self, directory: Path) -> None:
        """Write the graph, ``statistics.safetensors`` and ``samples.json``."""
        save_graph(self.graph, directory)
        tensors = {
            f"{name}|{key}": tensor
            for name, statistics in self.statistics.items()
            for key, tensor in statistics.to_tensors().items()
        }
        save_file(tensors, directory / "statistics.safetensors")
        document = {"points": list(self.statistics), "ids": list(self.sample_ids)}
        (directory / "samples.json").write_text(json.dumps(document))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        tensors = load_file(directory / "statistics.safetensors")
        document = json.loads((directory / "samples.json").read_text())
        grouped: dict[str, dict[str, torch.Tensor]] = {name: {} for name in document["points"]}
        for key, tensor in tensors.items():
            name, _, part = key.rpartition("|")
            grouped[name][part] = tensor
        return cls(
            graph=load_graph(directory),
            statistics={name: Statistics.from_tensors(parts) for name, parts in grouped.items()},
            sample_ids=tuple(document["ids"]),
        )

    def metrics(self) -> dict[str, float]:
        """``calibration/samples``; ``calibration/abnormal_points``, where some of them are abnormal."""
        found = sum(abnormal(statistics) is not None for statistics in self.statistics.values())
        return {
            "calibration/samples": float(len(self.sample_ids)),
            "calibration/abnormal_points": float(found),
        }
