"""What a run records, as lines of a file in its folder, until the record has all of it.

``tracking.jsonl`` has one JSON object a line: first ``{"call": "open", …}``, which says where it belongs,
``{"call": "run", "run_id": …}`` once the record has a run for it, then each call in order. Points of time are
milliseconds since 1970, as MLflow counts, and never go back, whatever the system's clock does: MLflow takes
the latest for a metric's value.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artifact import ServedModel
from pipeline.errors import PipelineError

log = logging.getLogger(__name__)

JOURNAL = "tracking.jsonl"
JOURNALS = "tracking*.jsonl"
"""With those of earlier runs in the same folder that could not be delivered yet, ``tracking.1.jsonl``, …"""

JournalEntry = Mapping[str, Any]
"""A line: ``call`` and its arguments."""


class Journal:
    """The entries of one run, in memory and in the file, as far as the disk takes them.

    Args:
        file: the file; a new one takes the place of an old one.
        floor: a point of time that lies before none of the entries'.
    """

    def __init__(self, file: Path, *, floor: int = 0) -> None:
        self.file = file
        self.entries: list[JournalEntry] = []
        self._now = floor
        self._writes = True
        file.unlink(missing_ok=True)

    def add(self, call: str, **fields: Any) -> JournalEntry:
        """Add an entry; returns it."""
        entry = {"call": call, **fields}
        self.entries.append(entry)
        if self._writes:
            try:
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry, allow_nan=False) + "\n")
            except OSError as error:
                self._writes = False  # what follows would stand behind a gap
                log.warning("%s: %s; what this run records is kept in memory alone", self.file, error)
        return entry

    def now(self) -> int:
        """The time, later than any that was given before."""
        self._now = max(self._now + 1, round(time.time() * 1000))
        return self._now

    def remove(self) -> None:
        """Delete the file: the record has all of it."""
        self.file.unlink(missing_ok=True)


def read_journal(file: Path) -> list[JournalEntry]:
    """The entries of a file; a last line that its writer did not complete is left out.

    Raises:
        PipelineError: it is no journal.
    """
    entries: list[JournalEntry] = []
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        for line in lines[:-1]:  # each ends by a newline
            entry = json.loads(line)
            if not isinstance(entry, dict) or not isinstance(entry.get("call"), str):
                raise ValueError(f"line {len(entries) + 1} is no call")
            entries.append(entry)
    except (OSError, ValueError, RecursionError) as error:
        raise PipelineError(f"{file}: not a readable record of a run ({error})") from error
    if not entries or not _opens(entries[0]):
        raise PipelineError(f"{file}: not the record of a run; it does not begin with where it belongs")
    return entries


def _opens(entry: JournalEntry) -> bool:
    texts = all(isinstance(entry.get(name), str) for name in ("uri", "experiment", "artifacts", "name"))
    return (
        entry["call"] == "open"
        and texts
        and isinstance(entry.get("tags"), dict)
        and isinstance(entry.get("time"), int)
    )


def model_fields(model: ServedModel, run_dir: Path) -> dict[str, Any]:
    """A served model as JSON has it; its folder relative to the run's."""
    example = np.ascontiguousarray(model.example)
    return {
        "name": model.name,
        "folder": inside(run_dir, model.folder),
        "loader_module": model.loader_module,
        "example": {
            "dtype": example.dtype.str,
            "shape": list(example.shape),
            "bytes": base64.b64encode(example.tobytes()).decode(),
        },
        "outputs": list(model.outputs),
        "params": dict(model.params),
        "requirements": list(model.requirements),
        "code": [inside(run_dir, wheel) for wheel in model.code],
        "config": dict(model.config),
    }


def model_of(entry: JournalEntry, run_dir: Path, *, own: bool) -> ServedModel:
    """What `model_fields` wrote. Raises `ValueError`, `KeyError` or `TypeError` where it did not.

    Args:
        entry: the call's entry.
        run_dir: the run's folder.
        own: whether its folder may lie elsewhere.
    """
    example = entry["example"]
    array = np.frombuffer(base64.b64decode(example["bytes"]), np.dtype(example["dtype"]))
    return ServedModel(
        name=entry["name"],
        folder=run_dir / entry["folder"] if own else found(run_dir, entry["folder"]),
        loader_module=entry["loader_module"],
        example=array.reshape(example["shape"]),
        outputs=tuple(entry["outputs"]),
        params=entry["params"],
        requirements=tuple(entry["requirements"]),
        code=tuple(run_dir / wheel if own else found(run_dir, wheel) for wheel in entry.get("code", ())),
        config=entry["config"],
    )


def inside(run_dir: Path, path: Path) -> str:
    """A path relative to the run's folder, which may move before it is delivered."""
    full, folder = path.absolute(), run_dir.absolute()
    return str(full.relative_to(folder)) if full.is_relative_to(folder) else str(full)


def found(run_dir: Path, path: str) -> Path:
    """The path of `inside`. Raises `ValueError` for one outside the run's folder, which nothing may leave."""
    full = (run_dir / path).resolve()
    if not full.is_relative_to(run_dir.resolve()):
        raise ValueError(f"{path!r} lies outside the run's folder")
    return full
