"""What a benchmark measured, as an artifact: every sample, every failure with its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from stages.benchmarking.layers import LayerTime
from stages.measuring.timing import Timing


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all competitors of one table did: `size` is the batch, or the number of samples."""

    workload: str
    size: int
    threads: int

    def __str__(self) -> str:
        return f"{self.workload}/{self.size}/threads{self.threads}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One competitor in one setting: its timing, or why there is none.

    Args:
        setting: what it did.
        competitor: its name.
        timing: None where it failed.
        failure: why; empty where it did not.
        agreement: its output's correlation with the float network's; None where nothing was compared.
        peer: whether it is somebody else's engine.
        held: whether it keeps to the instruction set of the benchmark.
    """

    setting: Setting
    competitor: str
    timing: Timing | None = None
    failure: str = ""
    agreement: float | None = None
    peer: bool = True
    held: bool = True

    def __str__(self) -> str:
        if self.timing is None:
            return f"{self.setting}  {self.competitor}: failed, {self.failure}"
        low, high = (1e3 * quartile for quartile in self.timing.quartiles)
        return (
            f"{self.setting}  {self.competitor}: {1e3 * self.timing.median:.2f} ms ({low:.2f} – {high:.2f})"
        )


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All rows, and what else was measured.

    Args:
        baseline: the competitor that ratios are over.
        size: what a setting's size counts: ``batch``, ``samples``.
        rows: in the order of settings and competitors.
        layers: operators of the pipeline's engine, by setting.
        figures: single numbers by name.
        machine: what it ran on.
    """

    kind: ClassVar[str] = "benchmark"

    baseline: str
    size: str
    rows: tuple[Row, ...]
    layers: Mapping[str, tuple[LayerTime, ...]] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)

    def settings(self) -> tuple[Setting, ...]:
        """In order, each once."""
        return tuple(dict.fromkeys(row.setting for row in self.rows))

    def title(self, setting: Setting) -> str:
        """A setting in words."""
        threads = f"{setting.threads} thread" + ("s" if setting.threads > 1 else "")
        return f"{setting.workload}, {self.size} {setting.size}, {threads}"

    def of(self, setting: Setting) -> Iterator[tuple[Row, float | None]]:
        """The rows of a setting, each with its median over the baseline's; None where either failed."""
        rows = [row for row in self.rows if row.setting == setting]
        base = next((row.timing for row in rows if row.competitor == self.baseline), None)
        for row in rows:
            known = row.timing is not None and base is not None
            yield row, row.timing.median / base.median if known else None  # type: ignore[union-attr]

    def metrics(self) -> dict[str, float]:
        """``benchmark/<workload>/<size>/threads<n>/<competitor>/{seconds,ratio}``, and the figures."""
        values = {f"benchmark/{name}": value for name, value in self.figures.items()}
        for setting in self.settings():
            for row, ratio in self.of(setting):
                prefix = f"benchmark/{setting}/{row.competitor}"
                if row.timing is not None:
                    low, high = row.timing.quartiles
                    values[f"{prefix}/seconds"] = row.timing.median
                    values[f"{prefix}/seconds_q1"] = low
                    values[f"{prefix}/seconds_q3"] = high
                if ratio is not None:
                    values[f"{prefix}/ratio"] = ratio
                if row.agreement is not None:
                    values[f"{prefix}/agreement"] = row.agreement
        return values

    def save(self, directory: Path) -> None:
        """Write benchmark.json."""
        (directory / "benchmark.json").write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote."""
        document = json.loads((directory / "benchmark.json").read_text())
        layers = {
            name: tuple(LayerTime(**layer) for layer in table) for name, table in document["layers"].items()
        }
        return cls(**{**document, "rows": tuple(map(_row, document["rows"])), "layers": layers})


def _row(document: Mapping[str, Any]) -> Row:
    timing = document["timing"]
    return Row(
        setting=Setting(**document["setting"]),
        competitor=document["competitor"],
        timing=None if timing is None else Timing(samples=tuple(timing["samples"])),
        failure=document["failure"],
        agreement=document["agreement"],
        peer=document["peer"],
        held=document["held"],
    )
