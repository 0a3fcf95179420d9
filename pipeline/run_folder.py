"""A run's folder is its own while it runs: a lock in it, which the system frees when the process ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError

log = logging.getLogger(__name__)

LOCK = ".lock"
"""The file in a run's folder; empty, and left there: two could hold it where one of them removes it."""


class OccupiedError(PipelineError):
    """Another run is writing to a folder."""


_held: dict[Path, FileLock] = {}
"""What this process holds to its end."""


def occupy(run_dir: Path) -> None:
    """Hold a folder until this process ends, creating it where it does not exist.

    Raises:
        OccupiedError: another run is writing there.
        OSError: the disk refuses.
    """
    lock = _acquired(run_dir)
    if lock is not None:
        _held[run_dir.resolve()] = lock


@contextmanager
def occupied(run_dir: Path) -> Iterator[None]:
    """Hold a folder for a block; one that `occupy` holds stays held.

    Raises:
        OccupiedError: another run is writing there.
        OSError: the disk refuses.
    """
    lock = None if run_dir.resolve() in _held else _acquired(run_dir)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _acquired(run_dir: Path) -> FileLock | None:
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / LOCK, mode=0o666)
    try:
        lock.acquire(timeout=0)
    except Timeout as taken:
        raise OccupiedError(
            f"{run_dir}: another run is writing there, and a run's folder is its own. Remedy: another "
            "hydra.run.dir, or wait for it to end"
        ) from taken
    except NotImplementedError as error:  # a file system without locks
        log.warning("%s: %s; nothing keeps two runs apart there", run_dir, error)
        return None
    return lock
