"""MLflow's client and its database. MLflow is imported when a run opens: that takes a second or two."""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.tracking.mlflow_run import SQLITE, unreachable

_ENVIRONMENT = {  # read by MLflow at import, or at each request
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "GIT_PYTHON_REFRESH": "quiet",
}

_FileId = tuple[int, int]
_opened: dict[str, list[_FileId]] = {}
"""The files that this process has had open under each address."""


def mlflow_client(uri: str) -> Any:
    """MLflow's client, kept quiet. Creates a database that does not exist; the caller holds its lock."""
    if not uri.startswith(SQLITE):
        return _client(uri)
    database = database_of(uri)
    if not database.exists() or database.stat().st_size == 0:  # SQLite leaves an empty file where it fails
        _import()
        _create(database)
    files = _opened.setdefault(uri, [])
    if (file := _file_id(database)) not in files:
        files.append(file)
    # MLflow keeps connections by address, on a file that may be deleted since: another file, another spelling
    folders = "./" * files.index(file)
    return _client(f"{SQLITE}{database.parent}/{folders}{database.name}")


def same_database(uri: str) -> Callable[[], bool]:
    """Return a test of whether the database file is still the one that it is now; true of a server."""
    if not uri.startswith(SQLITE):
        return lambda: True
    database = database_of(uri)
    file = _file_id(database)
    return lambda: _file_id(database) == file


def database_of(uri: str) -> Path:
    """The file of an address ``sqlite:///…``."""
    return Path(uri.removeprefix(SQLITE))


def reach(uri: str) -> None:
    """Fail at once, with a remedy, where nothing listens at `uri`."""
    if uri.startswith(SQLITE):
        return
    address = urlsplit(uri)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=3).close()
    except OSError as error:
        raise unreachable(uri, error) from error


def _import() -> None:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow.tracking  # noqa: F401

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # its import sets the level anew
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # prints SQL for what it raises too


@cache
def _client(uri: str) -> Any:
    _import()
    from mlflow.tracking import MlflowClient

    if uri.startswith(SQLITE):
        with closing(sqlite3.connect(database_of(uri))) as file:
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
    for suffix in ("-wal", "-shm"):  # of a deleted one, which SQLite would take for this one's
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    new.replace(database)


def _file_id(database: Path) -> _FileId:
    with suppress(OSError):
        status = database.stat()
        return status.st_dev, status.st_ino
    return 0, 0
