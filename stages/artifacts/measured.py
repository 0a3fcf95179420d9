"""What a run measured of the network's forms: their figures, their speeds, and the verdict on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays

from stages.backends.base import EXACT, Tolerance


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """What the forms of the network gave for the test samples.

    Args:
        values: flat metric name → number, as MLflow gets them. A figure that is not defined (the SQNR of
            equal logits) or not measured is left out.
        predictions: ``labels``, ``float``, ``simulated``, ``integer``, as far as they are there: (N, …),
            what each decided about each test sample. Classes are int64 (N,), the lowest of those that tie.
        notes: what a reader should know: a backend that fell back, a rounding that is not exact.
        backend: the name of what ran the integers; empty where none were run.
        tolerance: what those integers have to keep.
    """

    kind: ClassVar[str] = "metrics"
    values: Mapping[str, float]
    predictions: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    backend: str = ""
    tolerance: Tolerance = EXACT

    def save(self, directory: Path) -> None:
        """Write ``measured.json`` and ``predictions.safetensors``."""
        document = {
            "values": dict(self.values),
            "notes": self.notes,
            "backend": self.backend,
            "tolerance": asdict(self.tolerance),
        }
        write_json(directory / "measured.json", document)
        self.write_files(directory)

    def write_files(self, run_dir: Path) -> None:
        """Write ``predictions.safetensors``, by which runs are compared."""
        save_arrays(dict(self.predictions), run_dir / "predictions.safetensors")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        document = json.loads((directory / "measured.json").read_text())
        return cls(
            values=document["values"],
            predictions=load_arrays(directory / "predictions.safetensors"),
            notes=tuple(document["notes"]),
            backend=document["backend"],
            tolerance=Tolerance(**document["tolerance"]),
        )

    def metrics(self) -> dict[str, float]:
        """The flat numbers."""
        return dict(self.values)


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Images per second of one form: the median of its turns, and their quartiles."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """How fast the forms of the network are, measured in turns on the same images.

    Args:
        forms: ``float``, ``simulated``, ``integer``, as far as they are there.
        threads: on which all of them ran.
        batch_size: images a call.
        instruction_set: that the integer kernels were compiled for; empty where that is not their choice.
    """

    kind: ClassVar[str] = "speeds"
    forms: Mapping[str, Speed]
    threads: int
    batch_size: int
    instruction_set: str = ""

    def save(self, directory: Path) -> None:
        """Write ``speeds.json``."""
        write_json(directory / "speeds.json", asdict(self))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        document = json.loads((directory / "speeds.json").read_text())
        return cls(**{**document, "forms": {n: Speed(**speed) for n, speed in document["forms"].items()}})

    def metrics(self) -> dict[str, float]:
        """``<form>/images_per_second``, with quartiles ``…_low`` and ``…_high``, and what they hold for."""
        values = {"speed/threads": float(self.threads), "speed/batch_size": float(self.batch_size)}
        for name, speed in self.forms.items():
            values |= {
                f"{name}/images_per_second": speed.median,
                f"{name}/images_per_second_low": speed.low,
                f"{name}/images_per_second_high": speed.high,
            }
        return values


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the run keeps its contract of parity.

    Args:
        demanded: what the contract asks for, in words; empty where there is nothing that it asks for.
        broken: how it was broken, and the remedy; None where it holds.
    """

    kind: ClassVar[str] = "verdict"
    demanded: str = ""
    broken: str | None = None

    def save(self, directory: Path) -> None:
        """Write ``verdict.json``."""
        write_json(directory / "verdict.json", asdict(self))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        return cls(**json.loads((directory / "verdict.json").read_text()))


def write_json(path: Path, document: Any) -> None:
    """Write a document that every reader of JSON takes: ValueError for NaN and infinities."""
    path.write_text(json.dumps(document, indent=1, allow_nan=False))
