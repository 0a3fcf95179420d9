"""No tracker: the run directory is the only record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.artifact import ServedModel
from pipeline.console import Console


@dataclass(frozen=True, kw_only=True)
class Null:
    """Records nothing, quickly; serves as its own `Tracker`."""

    run_id: str = ""

    def open(
        self, run_dir: Path, console: Console, choices: Mapping[str, str], changed: Sequence[str] = ()
    ) -> Null:
        """Nothing to open."""
        return self

    def params(self, values: Mapping[str, object]) -> None:
        """Ignore."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Ignore."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Ignore."""

    def describe(self, text: str) -> None:
        """Ignore."""

    def dataset(self, name: str, fingerprint: str, facts: Mapping[str, object]) -> None:
        """Ignore."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Ignore."""

    def model(self, model: ServedModel) -> None:
        """Ignore."""

    def finish(self, error: BaseException | None = None) -> None:
        """Ignore."""

    def where(self) -> str:
        """There is nowhere to look but the run directory."""
        return "not tracked (tracking=none)"
