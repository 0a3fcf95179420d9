"""The protocol of a tracker: where a run's parameters, metrics and files are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """An open run. Opened before the first stage, and always finished."""

    run_id: str
    """The tracker's identifier of the run; empty where there is none."""

    def params(self, values: Mapping[str, object]) -> None:
        """Record what was chosen: resolved configuration, versions, seeds."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Record what describes the run: config groups, git commit, host."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record numbers as they become known."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file, or a folder with all it holds, into the record."""

    def finish(self, error: BaseException | None = None) -> None:
        """Close the run: FINISHED, or FAILED with the error's text."""

    def where(self) -> str:
        """Say in one line how to look at the record."""
