"""The protocols of tracking: where a run's parameters, metrics and files are recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pipeline.artifact import ServedModel
    from pipeline.console import Console


FINGERPRINT = "fingerprint"
"""The tag by which a later run of the same configuration, code and data knows an earlier one."""


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
        """Record finite numbers as they become known."""

    def describe(self, text: str) -> None:
        """Say in Markdown what came of the run: what a record shows before all else."""

    def dataset(self, name: str, fingerprint: str, facts: Mapping[str, object]) -> None:
        """Record what was measured on: its name, the identity of its content, and what else is known."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file, or a folder with all it holds, into the record."""

    def model(self, model: ServedModel) -> None:
        """Log a model that can be served and registered."""

    def finish(self, error: BaseException | None = None) -> None:
        """Close the run: FINISHED, FAILED with the error's text, or KILLED where the user stopped it.

        Raises:
            PipelineError: the record is required, and does not have everything.
        """

    def where(self) -> str:
        """Say in a line how to look at the record, and in another how to serve its model."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run's place in a sweep.

    Args:
        sweep: identifier of the sweep's own record, the parent of its runs.
        fingerprint: hash of all that the run's figures depend on.
        name: what the run is called.
    """

    sweep: str
    fingerprint: str
    name: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """A run as it was recorded; not `finished` where it failed, or was killed on the way.

    Its `metrics` are finite, whatever was recorded: what is not is left out.
    """

    run_id: str
    finished: bool
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@runtime_checkable
class Tracking(Protocol):
    """What the configuration group ``tracking`` chooses: opens a `Tracker` for each run."""

    def open(
        self, run_dir: Path, console: Console, choices: Mapping[str, str], changed: Sequence[str] = ()
    ) -> Tracker:
        """Start recording the run that writes to `run_dir`.

        Args:
            run_dir: its folder.
            console: told what goes wrong.
            choices: the option of each configuration group, which a run may be called by.
            changed: further settings, ``weight.bits=4``.

        Raises:
            PipelineError: the record cannot be reached, and the configuration requires it.
        """


@runtime_checkable
class SweepTracking(Protocol):
    """A `Tracking` that keeps a sweep together, and knows later which of its runs are done."""

    def open_sweep(self, tags: Mapping[str, str], *, resume: bool) -> Record | None:
        """The record of a sweep, found by its tag ``fingerprint``, or begun, with `tags`.

        None where it cannot be reached and need not be.

        Args:
            tags: ``fingerprint``, ``sweep`` (the folder), and what else describes the sweep.
            resume: False begins a new one in any case.
        """

    def close_sweep(self, run_id: str, error: BaseException | None = None) -> None:
        """Close the record as `Tracker.finish` does."""

    def recorded(self, job: Job) -> Record | None:
        """The latest run of a job, a finished one where there is one; None where the record stays away."""

    def open_job(self, run_dir: Path, console: Console, job: Job, record: Record | None) -> Tracker:
        """Open a run below the sweep's record; go on with an unfinished `record`."""


@runtime_checkable
class SettlesRuns(Protocol):
    """A `Tracking` that completes later what a run could not record."""

    def settle(self, run_dir: Path, console: Console) -> Sequence[Record]:
        """Deliver what earlier runs left; returns those that were killed, and are recorded so from now on.

        What cannot be delivered is a warning. Call with the run's folder held (`pipeline.run_folder`).
        """


@runtime_checkable
class Archive(Protocol):
    """A `Tracking` from which a run can be had back."""

    def fetch(self, run_id: str, folder: Path) -> Record:
        """A run's record; what Hydra wrote, the resolved configuration, is copied to ``folder/.hydra``.

        Raises:
            PipelineError: there is no such run, or it has no configuration.
        """
