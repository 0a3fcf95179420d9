"""Runs whose record is not complete: still running, killed, or done while their record was away.

A folder names them, a file each with the path of the run's journal. Whoever looks for them, a later run or
``python -m pipeline.deliver``, takes the lock of the run's folder, which the system frees when a process
ends; what is locked is alive. What is not is delivered, and a run that never said how it ended is set to
KILLED.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.run_folder import OccupiedError, occupied
from pipeline.tracking.base import Record
from pipeline.tracking.journal import JournalEntry, read_journal
from pipeline.tracking.mlflow_run import MLflowTracker
from pipeline.tracking.patient import send

log = logging.getLogger(__name__)

KILLED = "the process was killed"

Attach = Callable[[JournalEntry, str], MLflowTracker]
"""The run at the record, from a journal's first entry and the run's identifier, or a new one."""


def note(folder: Path, journal: Path) -> None:
    """Name a journal among those that are not complete."""
    name = _name(folder, journal)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        name.write_text(f"{journal.absolute()}\n", encoding="utf-8")
    except OSError as error:  # then only `pipeline.deliver` with the run's folder finds it
        log.warning("%s: %s", name, error)


def forget(folder: Path, journal: Path) -> None:
    """Remove the name of a journal: its record is complete."""
    with suppress(OSError):
        _name(folder, journal).unlink(missing_ok=True)


def journals(folder: Path) -> Iterator[Path]:
    """The journals that are named, oldest first; the name of one that no longer exists is removed."""
    for name in sorted(folder.glob("*.path"), key=_modified):
        try:
            journal = Path(name.read_text(encoding="utf-8").strip())
        except (OSError, ValueError):  # removed by another, in the meantime
            continue
        if journal.is_file():
            yield journal
        else:
            name.unlink(missing_ok=True)


def settle(
    folder: Path, attach: Attach, uri: str, *, own: Path | None = None, warn: Callable[[str], None]
) -> list[Record]:
    """Complete the records at `uri` of all named runs that are no longer running.

    Args:
        folder: names them.
        attach: connects to the record.
        uri: of the record; others' are left alone.
        own: the folder of the run that this process has begun, whose lock it holds.
        warn: told of a run that the record refuses, which stays named.

    Returns:
        The runs that had been killed, with their tags.
    """
    killed = []
    for journal in journals(folder):
        with ExitStack() as stack:
            try:
                if own is None or journal.parent.resolve() != own.resolve():
                    stack.enter_context(occupied(journal.parent))
                if not journal.is_file():  # its run has ended in the meantime
                    continue
                if read_journal(journal)[0].get("uri") == uri:
                    record = deliver(journal, attach)
                    forget(folder, journal)
                    killed += [] if record.finished else [record]
            except OccupiedError:
                continue
            except (PipelineError, OSError) as refusal:
                warn(f"an earlier run is not recorded yet: {refusal}")
    return killed


def deliver(journal: Path, attach: Attach) -> Record:
    """Deliver a journal and remove it; returns the run, not `finished` where it had been killed.

    Call with the lock of its folder.

    Raises:
        PipelineError: the record refuses, or the file is no journal.
    """
    entries = read_journal(journal)
    run_id = next((str(e.get("run_id", "")) for e in reversed(entries) if e["call"] == "run"), "")
    tracker = attach(entries[0], run_id)
    for entry in entries:
        send(entry, tracker, journal.parent, own=False)
    finished = any(entry["call"] == "finish" for entry in entries)
    if not finished:
        times = [entry["time"] for entry in entries if isinstance(entry.get("time"), int)]
        tracker.end("KILLED", KILLED, when=max(times, default=None))
    journal.unlink()
    return Record(run_id=tracker.run_id, finished=finished, metrics={}, tags=_tags(entries))


def _tags(entries: list[JournalEntry]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for entry in entries:
        if entry["call"] == "tags":
            tags |= entry["values"]
    return tags


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed by another, in the meantime
        return 0.0


def _name(folder: Path, journal: Path) -> Path:
    return folder / f"{hashlib.sha256(str(journal.absolute()).encode()).hexdigest()[:16]}.path"
