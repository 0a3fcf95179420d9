"""A tracker that remembers the numbers it passes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import ServedModel
from pipeline.tracking.base import Tracker


class RecordingTracker:
    """Passes every call on to `tracker`; `latest` holds each metric's last value."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.latest: dict[str, float] = {}

    @property
    def run_id(self) -> str:
        """The tracker's identifier of the run."""
        return self._tracker.run_id

    def params(self, values: Mapping[str, object]) -> None:
        """Pass on."""
        self._tracker.params(values)

    def tags(self, values: Mapping[str, str]) -> None:
        """Pass on."""
        self._tracker.tags(values)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Pass on as floats, and remember."""
        numbers = {name: float(value) for name, value in values.items()}
        self._tracker.metrics(numbers, step)
        self.latest |= numbers

    def artifact(self, path: Path, folder: str = "") -> None:
        """Pass on."""
        self._tracker.artifact(path, folder)

    def model(self, model: ServedModel) -> None:
        """Pass on."""
        self._tracker.model(model)

    def finish(self, error: BaseException | None = None) -> None:
        """Pass on."""
        self._tracker.finish(error)

    def where(self) -> str:
        """Pass on."""
        return self._tracker.where()
