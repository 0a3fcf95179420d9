"""What other runtimes made of a run's program, beside our own integers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from stages.artifacts.compared import LayerParity
from stages.artifacts.measured import write_json

Differences = Mapping[int, int]
"""Levels of the runtime less ours → how often, over all samples and elements."""


@dataclass(frozen=True, kw_only=True)
class LayerDifference:
    """One value of the program on a runtime: its name, its operator, how far its levels lie from ours."""

    name: str
    op: str
    differences: Differences

    @property
    def largest(self) -> int:
        """The largest absolute difference."""
        return LayerParity.max_off_by(self.differences)


@dataclass(frozen=True, kw_only=True)
class RuntimeResult:
    """What one runtime gave.

    Args:
        name: as the user chose it.
        version: the runtime's package and its version; empty where it has none.
        refused: why it gave nothing; empty where it did. All else is then empty.
        figures: the task's, by a measure's key.
        agreement: the share of samples on which it decides what our integers decide.
        output: differences of the program's output.
        layers: in execution order, where the runtime shows what lies between; differences add up along them.
        milliseconds: of one sample, the median.
        export: the exporter whose file is this runtime's own; empty where none is.
        bytes: of the files that this exporter wrote in the run; None where it did not.
        notes: what a reader should know.
    """

    name: str
    version: str = ""
    refused: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    agreement: float | None = None
    output: Differences = field(default_factory=dict)
    layers: tuple[LayerDifference, ...] = ()
    milliseconds: float | None = None
    export: str = ""
    bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> LayerDifference | None:
        """The layer with the largest difference, of those the one with the fewest equal levels.

        None where all are equal, or none was seen.
        """
        differing = [layer for layer in self.layers if layer.largest]
        return max(
            differing,
            key=lambda layer: (layer.largest, -LayerParity.equal_share(layer.differences)),
            default=None,
        )

    def off_by(self) -> tuple[float, float, float] | None:
        """The shares of output levels off by 0, by 1, and by more; None where it gave none."""
        if self.refused:
            return None
        equal, within_1 = (LayerParity.equal_share(self.output, within=n) for n in range(2))
        return equal, within_1 - equal, 1.0 - within_1


@dataclass(frozen=True, kw_only=True)
class RuntimeComparison:
    """All runtimes that a run was told of, on the same samples.

    Args:
        results: in the order they were chosen.
        own: our integers' figures on these samples, by a measure's key.
        samples: how many.
        decision: what agreement is about: ``top-1``, or as the task says.
        exported: bytes of the files of exports that no runtime of these takes, by exporter.
        unwritten: why an export wrote none, by exporter.
    """

    kind: ClassVar[str] = "runtimes"
    results: tuple[RuntimeResult, ...]
    own: Mapping[str, float]
    samples: int
    decision: str = "top-1"
    exported: Mapping[str, int] = field(default_factory=dict)
    unwritten: Mapping[str, str] = field(default_factory=dict)

    def save(self, directory: Path) -> None:
        """Write ``runtimes.json``."""
        self.write_files(directory)

    def write_files(self, run_dir: Path) -> None:
        """Write ``runtimes.json``."""
        write_json(run_dir / "runtimes.json", asdict(self))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        document = json.loads((directory / "runtimes.json").read_text())
        return cls(**{**document, "results": tuple(map(_result, document["results"]))})

    def metrics(self) -> dict[str, float]:
        """``runtime/<name>/…``: the task's figures, ``agreement``, and of the output levels ``max_off_by``,
        ``equal_share``, ``within_1``; ``layer_max_off_by`` of all that is seen; ``milliseconds``."""
        values: dict[str, float] = {}
        for one in self.results:
            if one.refused:
                continue
            found: dict[str, float | None] = {
                **one.figures,
                "agreement": one.agreement,
                "max_off_by": float(LayerParity.max_off_by(one.output)),
                "equal_share": LayerParity.equal_share(one.output),
                "within_1": LayerParity.equal_share(one.output, within=1),
                "layer_max_off_by": float(max(layer.largest for layer in one.layers)) if one.layers else None,
                "milliseconds": one.milliseconds,
            }
            values |= {f"runtime/{one.name}/{key}": v for key, v in found.items() if v is not None}
        return values


def _result(document: dict[str, Any]) -> RuntimeResult:
    """One runtime, read back; JSON keys are strings where differences are integers."""
    layers = tuple(
        LayerDifference(**{**layer, "differences": _integer_keys(layer["differences"])})
        for layer in document["layers"]
    )
    read = {"output": _integer_keys(document["output"]), "layers": layers, "notes": tuple(document["notes"])}
    return RuntimeResult(**{**document, **read})


def _integer_keys(differences: Mapping[str, int]) -> dict[int, int]:
    return {int(key): count for key, count in differences.items()}
