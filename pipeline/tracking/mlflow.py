"""Records runs with MLflow: in an SQLite file beside the runs, or on a server.

MLflow is imported when a run opens, never before: it takes a second or two.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline.console import Console
from pipeline.errors import PipelineError
from pipeline.tracking import mlflow_sweep
from pipeline.tracking.base import Job, Record, Tracker
from pipeline.tracking.local import LocalTracker, OptionalTracker
from pipeline.tracking.mlflow_run import SQLITE, MLflowTracker, guarded, unreachable

_ENVIRONMENT = {  # read by MLflow at import, or at each request
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}


@dataclass(frozen=True, kw_only=True)
class MLflow:
    """Where to record.

    Args:
        uri: ``sqlite:///path`` (three slashes and a relative path, four and an absolute one), or the
            address of a server, ``http://host:5000``.
        experiment: name of the experiment; created where it does not exist.
        artifacts: folder that an SQLite experiment's files are copied to. A server has its own.
        required: False turns an unreachable record into a warning, and `tracking.jsonl` in the run
            directory keeps what would have been recorded.
        log_model: log the program as a model, which ``mlflow models serve`` runs.
    """

    uri: str = "sqlite:///outputs/mlflow.db"
    experiment: str = "quantization"
    artifacts: Path = Path("outputs/mlartifacts")
    required: bool = True
    log_model: bool = True

    def __post_init__(self) -> None:
        if not re.match(r"(sqlite:///.|https?://.)", self.uri):
            raise ValueError(f"uri={self.uri!r}: must be sqlite:///path or http(s)://host:port")
        if not self.experiment:
            raise ValueError("experiment='': must not be empty")

    def open(self, run_dir: Path, console: Console) -> Tracker:
        """Start an MLflow run named after the last two parts of `run_dir`."""
        return self._open(run_dir, console, "/".join(run_dir.parts[-2:]), {}, None)

    def open_job(self, run_dir: Path, console: Console, job: Job, record: Record | None) -> Tracker:
        """Start, or go on with, a run below the sweep's parent run."""
        return self._open(run_dir, console, job.name, mlflow_sweep.job_tags(job), record)

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
        """Close the parent run."""
        client, experiment = self._connect()
        MLflowTracker(client, self.uri, experiment, run_id).finish(error)

    def recorded(self, job: Job) -> Record | None:
        """The latest run with the job's tags, finished ones first."""
        client, experiment = self._connect()
        return guarded(self.uri, mlflow_sweep.find_job, client, experiment, job)

    def fetch(self, run_id: str, folder: Path) -> Record:
        """Read a run of any experiment of this database or server."""
        client, _ = self._connect()
        return mlflow_sweep.fetch(client, self.uri, run_id, folder)

    def _open(
        self, run_dir: Path, console: Console, name: str, tags: Mapping[str, str], record: Record | None
    ) -> Tracker:
        no_params: frozenset[str] = frozenset()
        try:
            client, experiment = self._connect()
            if record is None:
                run = guarded(self.uri, mlflow_sweep.create, client, experiment, name, tags)
                run_id, known = str(run.info.run_id), no_params
            else:
                run_id = record.run_id
                known = guarded(self.uri, mlflow_sweep.reopen, client, run_id)
        except PipelineError as refusal:
            if self.required:
                raise
            console.warn(f"{refusal}\nrecording in {run_dir} instead (tracking.required=false)")
            return LocalTracker(run_dir)
        tracker = MLflowTracker(
            client, self.uri, experiment, run_id, known_params=known, log_models=self.log_model
        )
        return tracker if self.required else OptionalTracker(tracker, run_dir, console)

    def _connect(self) -> tuple[Any, str]:
        """The client, and the identifier of the experiment, which is created where it does not exist."""
        if not self.uri.startswith(SQLITE):
            _reach(self.uri)
        with self._lock():
            client = guarded(self.uri, mlflow_client, self.uri)
            return client, guarded(self.uri, self._find_or_create, client)

    def _lock(self) -> AbstractContextManager[Any]:
        """One process at a time where there is a database file: creating its tables is not safe otherwise."""
        if not self.uri.startswith(SQLITE):
            return nullcontext()
        database = Path(self.uri.removeprefix(SQLITE))
        database.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(database.with_suffix(".lock"))

    def _find_or_create(self, client: Any) -> str:
        found = client.get_experiment_by_name(self.experiment)
        if found is None:
            local = self.uri.startswith(SQLITE)
            location = self.artifacts.absolute().as_uri() if local else None
            return str(client.create_experiment(self.experiment, artifact_location=location))
        if found.lifecycle_stage != "active":
            raise PipelineError(
                f"tracking.experiment='{self.experiment}' is deleted in {self.uri}; restore it with "
                f"`mlflow experiments restore -x {found.experiment_id}`, or choose another name"
            )
        return str(found.experiment_id)


@cache
def mlflow_client(uri: str) -> Any:
    """MLflow's client, imported here and kept quiet. Creates a new database; the caller holds its lock."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # its import sets the level anew
    if uri.startswith(SQLITE):
        database = Path(uri.removeprefix(SQLITE))
        if not database.exists():
            _create(database)
        with closing(sqlite3.connect(database)) as file:
            # writers wait for the disk once a commit, and readers do not wait for writers; kept in the file
            file.execute("PRAGMA journal_mode=WAL")
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _create(database: Path) -> None:
    """Make the database under another name, and rename it when it is whole.

    MLflow takes seconds for its tables, and finds no way into a file that holds some of them: a process that
    is stopped in the middle leaves a file that nobody opens, which the next one removes.
    """
    from mlflow.tracking import MlflowClient

    for left in database.parent.glob(f"{database.name}.new*"):
        left.unlink()
    new = database.with_name(f"{database.name}.new")
    MlflowClient(tracking_uri=f"{SQLITE}{new}").search_experiments(max_results=1)  # creates the tables
    new.replace(database)


def _reach(uri: str) -> None:
    """Fail at once, with a remedy, where nothing listens at `uri`."""
    address = urlsplit(uri)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=3).close()
    except OSError as error:
        raise unreachable(uri, error) from error
