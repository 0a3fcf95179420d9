"""Records to a file of the run directory, for when the tracking server cannot be reached."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.artifact import ServedModel
from pipeline.console import Console
from pipeline.errors import PipelineError
from pipeline.tracking.base import Tracker


class LocalTracker:
    """Appends each call as one JSON line to ``tracking.jsonl``: ``{"call": "metrics", "values": …}``."""

    run_id = ""

    def __init__(self, run_dir: Path) -> None:
        self._file = run_dir / "tracking.jsonl"

    def params(self, values: Mapping[str, object]) -> None:
        """Append."""
        self._append("params", values={name: str(value) for name, value in values.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        """Append."""
        self._append("tags", values=dict(values))

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Append."""
        self._append("metrics", values=dict(values), step=step)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Append the path alone: the files lie in the run directory."""
        self._append("artifact", path=str(path), folder=folder)

    def model(self, model: ServedModel) -> None:
        """Append the folder, which lies in the run directory."""
        self._append("model", name=model.name, folder=str(model.folder))

    def finish(self, error: BaseException | None = None) -> None:
        """Append."""
        self._append("finish", error=None if error is None else repr(error))

    def where(self) -> str:
        """Name the file."""
        return f"recorded in {self._file}"

    def _append(self, call: str, **fields: Any) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"call": call, **fields}, allow_nan=False) + "\n")


class OptionalTracker:
    """A tracker that may fail: at the first refusal it warns, and a `LocalTracker` takes over."""

    def __init__(self, tracker: Tracker, run_dir: Path, console: Console) -> None:
        self._tracker = tracker
        self._run_dir = run_dir
        self._console = console

    @property
    def run_id(self) -> str:
        """The identifier of the run at the tracker in use."""
        return self._tracker.run_id

    def params(self, values: Mapping[str, object]) -> None:
        """Pass on."""
        self._try("params", values)

    def tags(self, values: Mapping[str, str]) -> None:
        """Pass on."""
        self._try("tags", values)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Pass on."""
        self._try("metrics", values, step)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Pass on."""
        self._try("artifact", path, folder)

    def model(self, model: ServedModel) -> None:
        """Pass on."""
        self._try("model", model)

    def finish(self, error: BaseException | None = None) -> None:
        """Pass on."""
        self._try("finish", error)

    def where(self) -> str:
        """Say where the tracker in use records."""
        return self._tracker.where()

    def _try(self, call: str, *arguments: object) -> None:
        try:
            getattr(self._tracker, call)(*arguments)
        except PipelineError as refusal:
            self._console.warn(f"{refusal}\nrecording in {self._run_dir} from here on")
            self._tracker = LocalTracker(self._run_dir)
            getattr(self._tracker, call)(*arguments)
