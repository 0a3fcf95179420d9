"""A tracker that remembers the numbers it passes on."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from pipeline.artifact import ServedModel
from pipeline.tracking.base import Tracker

log = logging.getLogger(__name__)


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """The numbers that every record holds as they are: JSON has no infinity, and MLflow makes it 1.8e308."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}


class RecordingTracker:
    """Passes every call on to `tracker`, and of metrics those that are finite.

    `latest` holds each metric's last finite value, and `history` all of them, with their steps.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.latest: dict[str, float] = {}
        self.history: list[tuple[int | None, dict[str, float]]] = []
        self._left_out: set[str] = set()

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
        """Pass on as floats, and remember; what is not finite is left out, and the log says so once."""
        numbers = finite(values)
        for name, value in values.items():
            if name not in numbers and name not in self._left_out:
                self._left_out.add(name)
                log.warning("metric %s=%s: not finite, left out of the record", name, float(value))
        self._tracker.metrics(numbers, step)
        self.latest |= numbers
        if numbers:
            self.history.append((step, numbers))

    def describe(self, text: str) -> None:
        """Pass on."""
        self._tracker.describe(text)

    def dataset(self, name: str, fingerprint: str, facts: Mapping[str, object]) -> None:
        """Pass on."""
        self._tracker.dataset(name, fingerprint, facts)

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
