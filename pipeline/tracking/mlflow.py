"""Records runs with MLflow: in an SQLite file beside the runs, or on a server.

MLflow is imported when a run opens, never before: it takes a second or two.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock

from pipeline.console import Console
from pipeline.errors import PipelineError
from pipeline.tracking.base import Tracker
from pipeline.tracking.local import LocalTracker, OptionalTracker
from pipeline.tracking.mlflow_run import SQLITE, MLflowTracker, guarded, unreachable

_ENVIRONMENT = {  # read by MLflow at import, or at each request
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
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
    """

    uri: str = "sqlite:///outputs/mlflow.db"
    experiment: str = "quantization"
    artifacts: Path = Path("outputs/mlartifacts")
    required: bool = True

    def __post_init__(self) -> None:
        if not re.match(r"(sqlite:///.|https?://.)", self.uri):
            raise ValueError(f"uri={self.uri!r}: must be sqlite:///path or http(s)://host:port")
        if not self.experiment:
            raise ValueError("experiment='': must not be empty")

    def open(self, run_dir: Path, console: Console) -> Tracker:
        """Start an MLflow run named after the last two parts of `run_dir`."""
        try:
            tracker = self._open("/".join(run_dir.parts[-2:]))
        except PipelineError as refusal:
            if self.required:
                raise
            console.warn(f"{refusal}\nrecording in {run_dir} instead (tracking.required=false)")
            return LocalTracker(run_dir)
        return tracker if self.required else OptionalTracker(tracker, run_dir, console)

    def _open(self, name: str) -> Tracker:
        # creating the tables of a database is not safe against a second process doing so
        if self.uri.startswith(SQLITE):
            database = Path(self.uri.removeprefix(SQLITE))
            database.parent.mkdir(parents=True, exist_ok=True)
            lock: AbstractContextManager[Any] = FileLock(database.with_suffix(".lock"))
        else:
            _connect(self.uri)
            lock = nullcontext()
        with lock:
            client = guarded(self.uri, mlflow_client, self.uri)
            experiment = guarded(self.uri, self._find_or_create, client)
        run = guarded(self.uri, client.create_run, experiment, run_name=name)
        return MLflowTracker(client, self.uri, experiment, run.info.run_id)

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


def mlflow_client(uri: str) -> Any:
    """MLflow's client, imported here and kept quiet. Creates the tables of a new database."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # its import sets the level anew
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _connect(uri: str) -> None:
    """Fail at once, with a remedy, where nothing listens at `uri`."""
    address = urlsplit(uri)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=3).close()
    except OSError as error:
        raise unreachable(uri, error) from error
