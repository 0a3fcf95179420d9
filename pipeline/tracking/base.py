"""The protocols of tracking: where a run's parameters, metrics and files are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pipeline.console import Console


class Tracker(Protocol):
    """An open run. Opened before the first stage, and always finished."""

    @property
    def run_id(self) -> str:
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
        """Close the run: FINISHED, FAILED with the error's text, or KILLED where the user stopped it."""

    def where(self) -> str:
        """Say in one line how to look at the record."""


@runtime_checkable
class Tracking(Protocol):
    """What the configuration group ``tracking`` chooses: opens a `Tracker` for each run."""

    def open(self, run_dir: Path, console: Console) -> Tracker:
        """Start recording the run that writes to `run_dir`.

        Raises:
            PipelineError: the record cannot be reached, and the configuration requires it.
        """
