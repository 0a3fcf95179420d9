"""A tracker that a run can rely on: what its record does not take now is kept, and delivered later.

Each call is written to the run's `Journal` and passed on. Where the record does not take it (a server that is
away, a database that is locked, damaged or deleted), the run goes on, and the calls are delivered in order as
soon as the record is back: tried again after 1 s, 2 s, … up to a minute, between the run's own calls, and
with patience when the run ends. What is left then stays in the run's folder, for `pipeline.tracking.pending`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.artifact import ServedModel
from pipeline.console import Console
from pipeline.errors import PipelineError
from pipeline.tracking.journal import Journal, JournalEntry, found, inside, model_fields, model_of
from pipeline.tracking.mlflow_run import NOTE, MLflowTracker, outcome

FIRST, LAST = 1.0, 60.0
"""Seconds between tries: doubled each time."""

SHARE = 3.0
"""Least time between tries, as a multiple of what the last one took: they do not hold up the run."""

MAX_NAME = 100
_UNNAMEABLE = re.compile(r"[^\w-]+")
"""What a model's name is left without: some of it MLflow refuses."""

Connect = Callable[[str], MLflowTracker]
"""The run of an identifier, ready to record; or a new one where it is empty, or there is none of it.

Raises `PipelineError` where the record does not answer.
"""


class PatientTracker:
    """Records by way of a journal.

    Args:
        connect: gives the run at the record.
        journal: begun, with where it belongs.
        run_dir: the run's folder.
        console: told of what is lost and found.
        where: how to look at the record, while there is no connection.
        required: whether the run fails, when all is done, where the record cannot be delivered.
        patience: seconds to wait for the record at the end.
        called: what models are called; empty for their own names.
        delivered: called when the record has everything.
        tracker: the connection, if it is there; then the journal names the run.
    """

    def __init__(
        self,
        connect: Connect,
        journal: Journal,
        run_dir: Path,
        console: Console,
        *,
        where: str,
        required: bool = True,
        patience: float = 60.0,
        called: str = "",
        delivered: Callable[[], None] = lambda: None,
        tracker: MLflowTracker | None = None,
    ) -> None:
        self._connect = connect
        self._journal = journal
        self._run_dir = run_dir
        self._console = console
        self._where = where
        self._required = required
        self._patience = patience
        self._called = called
        self._delivered = delivered
        self._tracker = tracker
        self.run_id = "" if tracker is None else tracker.run_id
        self._sent = 0 if tracker is None else len(journal.entries)
        self._figures: dict[str, float] = {}
        self._pause = FIRST
        self._next = time.monotonic() + FIRST

    def params(self, values: Mapping[str, object]) -> None:
        """Record, now or later."""
        self._record("params", values={name: str(value) for name, value in values.items()})

    def tags(self, values: Mapping[str, str]) -> None:
        """Record, now or later."""
        self._record("tags", values={name: str(value) for name, value in values.items()})

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record, now or later, with the time of now."""
        numbers = {name: float(value) for name, value in values.items()}
        self._record("metrics", values=numbers, step=step, time=self._journal.now())
        if step is None:  # figures of the whole run, which its model has as well
            self._figures |= numbers

    def describe(self, text: str) -> None:
        """Record, now or later, where MLflow's pages show a run's description."""
        self._record("tags", values={NOTE: text})

    def dataset(self, name: str, fingerprint: str, facts: Mapping[str, object]) -> None:
        """Record, now or later."""
        self._record("dataset", name=name, fingerprint=fingerprint, facts=dict(facts))

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file of the run's folder, now or later."""
        self._record("artifact", path=inside(self._run_dir, path), folder=folder)

    def model(self, model: ServedModel) -> None:
        """Record a model in the run's folder, now or later."""
        called = _UNNAMEABLE.sub("-", self._called)[:MAX_NAME] or model.name
        fields = model_fields(replace(model, name=called), self._run_dir)
        self._record("model", **fields, figures=self._figures, time=self._journal.now())

    def finish(self, error: BaseException | None = None) -> None:
        """Close the run; wait for a record that is away, unless the user wants it to stop now.

        Raises:
            PipelineError: the record is required, and does not have everything.
        """
        status, text = outcome(error)
        self._record("finish", status=status, error=text, time=self._journal.now())
        refusal = self._wait(0.0 if status == "KILLED" else self._patience)
        if refusal is None:
            self._journal.remove()
            self._delivered()
            return
        text = (
            f"{refusal}\nall that this run records is in {self._journal.file}: the next run delivers it, and "
            "so does `python -m pipeline.deliver`"
        )
        if self._required:
            raise PipelineError(text)
        self._console.warn(text)

    def where(self) -> str:
        """How to look at the record, or where it waits."""
        if self._tracker is None:
            return f"{self._journal.file}, to be delivered to {self._where}"
        return self._tracker.where()

    def _record(self, call: str, **fields: object) -> None:
        entry = self._journal.add(call, **fields)
        if self._tracker is None:
            if time.monotonic() >= self._next and self._catch_up() is None:
                self._console.say(f"{self._where} is back, and has what was recorded meanwhile")
            return
        try:
            send(entry, self._tracker, self._run_dir)
            self._sent += 1
        except PipelineError:
            self._tracker = None
            refusal = self._catch_up()  # at once: a request may be lost alone, a database replaced
            if refusal is not None:
                self._console.warn(
                    f"{refusal}\nthe run goes on; what it records is delivered when that is back"
                )

    def _catch_up(self) -> PipelineError | None:
        """Deliver what the record lacks; returns what it refused, if it did."""
        begun = time.monotonic()
        try:
            tracker = self._connect(self.run_id)
            if tracker.run_id != self.run_id:
                if self.run_id:
                    self._console.warn(
                        f"run {self.run_id} is no longer in {self._where}; recorded anew, as {tracker.run_id}"
                    )
                self.run_id, self._sent = tracker.run_id, 0
                self._journal.add("run", run_id=self.run_id)
            while self._sent < len(self._journal.entries):
                send(self._journal.entries[self._sent], tracker, self._run_dir)
                self._sent += 1
        except PipelineError as refusal:
            now = time.monotonic()
            self._next = now + max(self._pause, SHARE * (now - begun))
            self._pause = min(2 * self._pause, LAST)
            return refusal
        self._tracker, self._pause = tracker, FIRST
        return None

    def _wait(self, patience: float) -> PipelineError | None:
        """Try until the record has everything, or `patience` is over; returns the last refusal."""
        give_up = time.monotonic() + patience
        refusal = None
        if self._tracker is None and patience:
            self._console.say(f"waiting up to {patience:.0f} s for {self._where}")
        while self._tracker is None:
            refusal = self._catch_up()
            left = give_up - time.monotonic()
            if refusal is not None and left <= 0:
                return refusal
            if refusal is not None:
                time.sleep(min(self._pause, left))
        return None


def send(entry: JournalEntry, tracker: MLflowTracker, run_dir: Path, *, own: bool = True) -> None:
    """Pass a journal's entry on.

    Args:
        entry: a line of a journal.
        tracker: the run at the record.
        run_dir: the run's folder.
        own: whether this process made the entry; of another's, no file outside `run_dir` is taken.

    Raises:
        PipelineError: the record refuses it, or it is none that this program writes.
    """
    call = entry["call"]
    try:
        if call == "params":
            tracker.params(entry["values"])
        elif call == "tags":
            tracker.tags(entry["values"])
        elif call == "metrics":
            tracker.metrics(entry["values"], entry["step"], when=entry["time"])
        elif call == "dataset":
            tracker.dataset(entry["name"], entry["fingerprint"], entry["facts"])
        elif call == "artifact":
            path = run_dir / entry["path"] if own else found(run_dir, entry["path"])
            if path.exists():  # else deleted since
                tracker.artifact(path, entry["folder"])
        elif call == "model":
            model = model_of(entry, run_dir, own=own)
            if model.folder.is_dir():
                tracker.model(model, entry.get("figures", {}), when=entry.get("time"))
        elif call == "finish":
            tracker.end(entry["status"], entry["error"], when=entry["time"])
        elif call not in ("open", "run"):
            raise ValueError("unknown")
    except PipelineError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PipelineError(
            f"{run_dir}: call '{call}' of its record cannot be delivered ({error})"
        ) from error
