"""Records runs with MLflow: in an SQLite file beside the runs, or on a server."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from pipeline.console import Console
from pipeline.errors import PipelineError
from pipeline.tracking import mlflow_sweep, pending
from pipeline.tracking.base import Job, Record, Tracker
from pipeline.tracking.journal import JOURNAL, Journal, JournalEntry
from pipeline.tracking.mlflow_client import database_of, mlflow_client, reach, same_database
from pipeline.tracking.mlflow_run import LOCKED_FOR, SQLITE, MLflowTracker, guarded, unreachable, within
from pipeline.tracking.patient import FIRST, LAST, PatientTracker

T = TypeVar("T")

BUSY = 5.0
"""Seconds that a run waits for a locked database before it goes on: its journal keeps what it records."""


@dataclass(frozen=True, kw_only=True)
class MLflow:
    """Where to record.

    A record that goes away during a run does not stop it: what is recorded is kept in ``tracking.jsonl`` of
    the run's folder and delivered when the record is back, in the same run or by a later one.

    Args:
        uri: ``sqlite:///path`` (three slashes and a relative path, four and an absolute one), or the
            address of a server, ``http://host:5000``.
        experiment: name of the experiment; created where it does not exist.
        artifacts: folder that an SQLite experiment's files are copied to. A server has its own.
        required: the run is refused where there is no record when it begins, and fails, when all is done,
            where the record does not have everything. False makes both a warning.
        log_model: log the program as a model, which ``mlflow models serve`` runs.
        patience: seconds to wait, when a run ends, for a record that is away.
        pending: folder that names the runs whose record is not complete: the running, and what a later run or
            ``python -m pipeline.deliver`` has to deliver. None for one beside the database.
        named_by: the groups whose options a run is called by, followed by the settings that the command
            changes; jobs of a sweep are called by what they differ in.
    """

    uri: str = "sqlite:///outputs/mlflow.db"
    experiment: str = "quantization"
    artifacts: Path = Path("outputs/mlartifacts")
    required: bool = True
    log_model: bool = True
    patience: float = 60.0
    pending: Path | None = None
    named_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not re.match(r"(sqlite:///.|https?://.)", self.uri):
            raise ValueError(f"uri={self.uri!r}: must be sqlite:///path or http(s)://host:port")
        if not self.experiment:
            raise ValueError("experiment='': must not be empty")
        if not self.patience >= 0.0:
            raise ValueError(f"patience={self.patience}: must be seconds, 0 or more")

    def settle(self, run_dir: Path, console: Console) -> list[Record]:
        """Deliver what earlier runs left; returns those that had been killed, and are recorded so now."""
        return pending.settle(self._pending(), self.attach, self._address(), own=run_dir, warn=console.warn)

    def open(
        self, run_dir: Path, console: Console, choices: Mapping[str, str], changed: Sequence[str] = ()
    ) -> Tracker:
        """Start an MLflow run named by its choices, or by its folder where it has none."""
        called = " ".join([*(choices[group] for group in self.named_by if group in choices), *changed])
        name = called or "/".join(run_dir.parts[-2:])
        return self._open(run_dir, console, name, {}, None, called=called, needed=self.required)

    def open_job(self, run_dir: Path, console: Console, job: Job, record: Record | None) -> Tracker:
        """Start, or go on with, a run below the sweep's parent run, for which the record was there."""
        tags = mlflow_sweep.job_tags(job)
        return self._open(run_dir, console, job.name, tags, record, called=job.name, needed=False)

    def open_sweep(self, tags: Mapping[str, str], *, resume: bool) -> Record | None:
        """Find or create the parent run, once even where several processes ask for the same sweep."""
        try:
            client, experiment = self._connect()
            with self._lock():
                return guarded(self.uri, mlflow_sweep.find_or_create, client, experiment, tags, resume=resume)
        except PipelineError:
            if self.required:
                raise
            return None  # each job says so for itself

    def close_sweep(self, run_id: str, error: BaseException | None = None) -> None:
        """Close the parent run; wait for a record that is away.

        Raises:
            PipelineError: it stays away, or has no such run any more: its database was deleted.
        """

        def close() -> bool:
            client, experiment = self._connect()
            if guarded(self.uri, mlflow_sweep.find_run, client, run_id) is None:
                return False
            MLflowTracker(client, self.uri, experiment, run_id).finish(error)
            return True

        if not _patiently(close, self.patience):
            raise PipelineError(
                f"tracking.uri={self.uri}: the sweep's run {run_id} is no longer there. Remedy: the same "
                "command again records the sweep anew, from what is stored"
            )

    def recorded(self, job: Job) -> Record | None:
        """The latest run with the job's tags, finished ones first; None where the record stays away."""

        def find() -> Record | None:
            client, experiment = self._connect()
            return guarded(self.uri, mlflow_sweep.find_job, client, experiment, job)

        try:
            return _patiently(find, self.patience)
        except PipelineError:
            return None  # the job is done, at worst again, and what it records delivered later

    def fetch(self, run_id: str, folder: Path) -> Record:
        """Read a run of any experiment of this database or server."""
        client, _ = self._connect()
        return mlflow_sweep.fetch(client, self.uri, run_id, folder)

    def attach(self, opening: JournalEntry, run_id: str) -> MLflowTracker:
        """Connect to a run, or begin the one that a journal's first entry describes.

        Raises:
            PipelineError: the record does not answer.
        """
        where = replace(self, experiment=opening["experiment"], artifacts=Path(opening["artifacts"]))
        client, experiment = where._connect(BUSY)
        name, tags = opening["name"], opening["tags"]

        def find_or_create() -> Any:
            found = mlflow_sweep.find_run(client, run_id) if run_id else None
            return found or mlflow_sweep.create(client, experiment, name, tags, when=opening["time"])

        return where._tracker(client, experiment, within(BUSY, self.uri, find_or_create))

    def _open(
        self,
        run_dir: Path,
        console: Console,
        name: str,
        tags: Mapping[str, str],
        record: Record | None,
        *,
        called: str,
        needed: bool,
    ) -> Tracker:
        known = "" if record is None else record.run_id
        tracker, refusal, floor = None, None, 0
        try:
            client, experiment = self._connect()
            if record is None:
                run = guarded(self.uri, mlflow_sweep.create, client, experiment, name, tags)
            else:
                run = guarded(self.uri, mlflow_sweep.reopen, client, known)
            floor = max(run.info.start_time, run.info.end_time or 0)
            tracker = self._tracker(client, experiment, run)
            known = tracker.run_id
        except PipelineError as error:
            if needed:
                raise
            refusal = error
        _set_aside(self._pending(), run_dir / JOURNAL)
        journal = Journal(run_dir / JOURNAL, floor=floor)
        opening = journal.add(
            "open",
            uri=self._address(),
            experiment=self.experiment,
            artifacts=str(self.artifacts.absolute()),
            name=name,
            tags=dict(tags),
            time=journal.now(),
        )
        if known:
            journal.add("run", run_id=known)
        pending.note(self._pending(), journal.file)
        if refusal is not None:
            console.warn(f"{refusal}\nthe run goes on; what it records is delivered when that is there")
        return PatientTracker(
            lambda run_id: self.attach(opening, run_id or known),
            journal,
            run_dir,
            console,
            where=self.uri,
            required=self.required,
            patience=self.patience,
            called=called,
            delivered=lambda: pending.forget(self._pending(), journal.file),
            tracker=tracker,
        )

    def _tracker(self, client: Any, experiment: str, run: Any) -> MLflowTracker:
        return MLflowTracker(
            client,
            self.uri,
            experiment,
            str(run.info.run_id),
            known_params=frozenset(run.data.params),
            log_models=self.log_model,
            locked_for=BUSY,
            intact=same_database(self.uri),
        )

    def _connect(self, locked_for: float = LOCKED_FOR) -> tuple[Any, str]:
        """The client, and the identifier of the experiment, which is created where it does not exist."""
        reach(self.uri)
        try:
            with self._lock():
                client = within(locked_for, self.uri, mlflow_client, self.uri)
                return client, within(locked_for, self.uri, self._find_or_create, client)
        except OSError as error:  # of the lock: a disk that is full or only read
            raise unreachable(self.uri, error) from error

    def _lock(self) -> AbstractContextManager[Any]:
        """One process at a time where there is a database file: creating its tables is not safe otherwise."""
        if not self.uri.startswith(SQLITE):
            return nullcontext()
        database = database_of(self.uri)
        database.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(database.with_suffix(".lock"), mode=0o666)

    def _pending(self) -> Path:
        if self.pending is not None:
            return self.pending
        local = self.uri.startswith(SQLITE)
        return database_of(self.uri).parent / "pending" if local else Path("outputs/pending")

    def _address(self) -> str:
        """The address as another folder's process would give it."""
        if not self.uri.startswith(SQLITE):
            return self.uri
        return f"{SQLITE}{database_of(self.uri).absolute()}"

    def _find_or_create(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            local = self.uri.startswith(SQLITE)
            location = self.artifacts.absolute().as_uri() if local else None
            # MLflow's pages open on runs and their metrics, rather than on traces of language models
            kind = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(self.experiment, artifact_location=location, tags=kind))
        if found.lifecycle_stage != "active":
            raise PipelineError(
                f"tracking.experiment='{self.experiment}' is deleted in {self.uri}; restore it with "
                f"`mlflow experiments restore -x {found.experiment_id}`, or choose another name"
            )
        return str(found.experiment_id)


def _patiently(call: Callable[[], T], seconds: float) -> T:
    """Call until it succeeds, or `seconds` are over."""
    give_up = time.monotonic() + seconds
    pause = FIRST
    while True:
        try:
            return call()
        except PipelineError:
            if time.monotonic() >= give_up:
                raise
        time.sleep(min(pause, max(0.0, give_up - time.monotonic())))
        pause = min(2 * pause, LAST)


def _set_aside(folder: Path, journal: Path) -> None:
    """Keep the journal of an earlier run in the same folder, which could not be delivered yet."""
    if not journal.exists():
        return
    number = next(n for n in itertools.count(1) if not (journal.parent / f"tracking.{n}.jsonl").exists())
    aside = journal.rename(journal.parent / f"tracking.{number}.jsonl")
    pending.forget(folder, journal)
    pending.note(folder, aside)
