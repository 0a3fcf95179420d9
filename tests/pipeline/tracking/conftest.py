"""A record that can go away: it takes calls as MLflow's tracker does, and refuses them while it is away."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import PipelineError


class Record:
    """Runs by identifier, each a list of calls; `away` refuses, and `lose` forgets them all."""

    def __init__(self) -> None:
        self.runs: dict[str, list[tuple[Any, ...]]] = {}
        self.away = False
        self.asked = 0

    def connect(self, run_id: str) -> Run:
        self.refuse()
        if run_id not in self.runs:
            run_id = f"run {self.asked}"
            self.runs[run_id] = []
        return Run(self, run_id)

    def refuse(self) -> None:
        self.asked += 1
        if self.away:
            raise PipelineError("the record is away")

    def lose(self) -> None:
        self.runs.clear()


class Run:
    """A run of a `Record`, in the place of `MLflowTracker`."""

    def __init__(self, record: Record, run_id: str) -> None:
        self._record, self.run_id = record, run_id

    def _call(self, *call: Any) -> None:
        self._record.refuse()
        if self.run_id not in self._record.runs:
            raise PipelineError("no such run")
        self._record.runs[self.run_id].append(call)

    def params(self, values: Any) -> None:
        self._call("params", values)

    def tags(self, values: Any) -> None:
        self._call("tags", values)

    def metrics(self, values: Any, step: int | None = None, *, when: int | None = None) -> None:
        self._call("metrics", values, step, when)

    def artifact(self, path: Any, folder: str = "") -> None:
        self._call("artifact", path, folder)

    def dataset(self, name: str, fingerprint: str, facts: Any) -> None:
        self._call("dataset", name, fingerprint, facts)

    def model(self, model: Any, figures: Any = None, *, when: int | None = None) -> None:
        self._call("model", model, figures, when)

    def end(self, status: str, error: str = "", *, when: int | None = None) -> None:
        self._call("end", status, error, when)

    def where(self) -> str:
        return f"the record, run {self.run_id}"


@pytest.fixture
def record() -> Record:
    return Record()
