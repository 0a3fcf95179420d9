"""An open MLflow run: MLflow's client behind the `Tracker` protocol."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pipeline.artifact import ServedModel
from pipeline.errors import PipelineError
from pipeline.tracking.mlflow_model import log_model

P = ParamSpec("P")
T = TypeVar("T")

SQLITE = "sqlite:///"
MAX_PARAM, MAX_TAG, MAX_KEY, BATCH = 6000, 5000, 250, 100  # MLflow's limits
LOCKED_FOR = 60.0
"""Seconds to keep trying while another process holds the database."""

NOTE = "mlflow.note.content"
"""The tag that MLflow's pages show as a run's description."""

DIGEST = 8
"""Characters of a data set's digest, as many as MLflow's own have."""

_UNSAFE = re.compile(r"[^\w\-. /:]")


class MLflowTracker:
    """One MLflow run.

    Args:
        client: MLflow's client.
        uri: the database or server, for messages.
        experiment_id: the experiment's identifier.
        run_id: the run's identifier.
        known_params: parameters that the run has already; MLflow refuses to change them.
        log_models: whether `model` does anything.
        locked_for: seconds to wait while another process holds the database.
        intact: whether the database is still the file that `client` has open.
    """

    def __init__(
        self,
        client: Any,
        uri: str,
        experiment_id: str,
        run_id: str,
        *,
        known_params: frozenset[str] = frozenset(),
        log_models: bool = True,
        locked_for: float = LOCKED_FOR,
        intact: Callable[[], bool] = lambda: True,
    ) -> None:
        self._client = client
        self._uri = uri
        self._experiment_id = experiment_id
        self._known = known_params
        self._log_models = log_models
        self._locked_for = locked_for
        self._intact = intact
        self._served: str | None = None
        self.run_id = run_id

    def params(self, values: Mapping[str, object]) -> None:
        """Record parameters; a value longer than MLflow allows is cut."""
        from mlflow.entities import Param

        new = {_key(name): str(value) for name, value in values.items() if _key(name) not in self._known}
        entities = [Param(name, _cut(value, MAX_PARAM)) for name, value in new.items()]
        for batch in _batches(entities):
            self._call(self._client.log_batch, self.run_id, params=batch)

    def tags(self, values: Mapping[str, str]) -> None:
        """Record tags; a value longer than MLflow allows is cut."""
        from mlflow.entities import RunTag

        entities = [RunTag(_key(name), _cut(str(value), MAX_TAG)) for name, value in values.items()]
        for batch in _batches(entities):
            self._call(self._client.log_batch, self.run_id, tags=batch)

    def metrics(
        self, values: Mapping[str, float], step: int | None = None, *, when: int | None = None
    ) -> None:
        """Record numbers, now or as of `when`, in milliseconds since 1970."""
        from mlflow.entities import Metric

        time_of = round(time.time() * 1000) if when is None else when
        entities = [Metric(_key(name), float(value), time_of, step or 0) for name, value in values.items()]
        for batch in _batches(entities):
            self._call(self._client.log_batch, self.run_id, metrics=batch)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file into `folder` of the run's files, or a folder under its own name."""
        if path.is_dir():
            inside = f"{folder}/{path.name}" if folder else path.name
            self._call(self._client.log_artifacts, self.run_id, str(path), inside)
        else:
            self._call(self._client.log_artifact, self.run_id, str(path), folder or None)

    def dataset(self, name: str, fingerprint: str, facts: Mapping[str, object]) -> None:
        """Record the data set that figures were measured on, as MLflow's pages list and filter it."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        digest = hashlib.sha256(fingerprint.encode()).hexdigest()[:DIGEST]
        source = json.dumps({"fingerprint": fingerprint})
        dataset = Dataset(_cut(name, MAX_KEY), digest, "local", source, profile=json.dumps(dict(facts)))
        context = InputTag("mlflow.data.context", "evaluation")
        self._call(self._client.log_inputs, self.run_id, [DatasetInput(dataset, [context])])

    def model(
        self, model: ServedModel, figures: Mapping[str, float] | None = None, *, when: int | None = None
    ) -> None:
        """Log as a pyfunc model with signature and input example, unless the configuration says not to.

        Args:
            model: what is logged.
            figures: the run's, which the model's own page has as well.
            when: as of which time, in milliseconds since 1970; None for now.
        """
        from mlflow.entities import Metric

        if not self._log_models:
            return
        model_id: list[str] = []
        self._call(lambda: model_id.append(log_model(self._client, self._experiment_id, self.run_id, model)))
        self._served = model_id[0]
        time_of = round(time.time() * 1000) if when is None else when
        entities = [
            Metric(_key(name), float(value), time_of, 0, model_id=model_id[0])
            for name, value in (figures or {}).items()
        ]
        for batch in _batches(entities):
            self._call(self._client.log_batch, self.run_id, metrics=batch)

    def finish(self, error: BaseException | None = None) -> None:
        """Close the run; its tag ``error`` holds the text of an error."""
        self.end(*outcome(error))

    def end(self, status: str, error: str = "", *, when: int | None = None) -> None:
        """Close the run with a status of MLflow's, now or as of `when`."""
        if error:
            self.tags({"error": error})
        self._call(self._client.set_terminated, self.run_id, status, when)

    def where(self) -> str:
        """The command, or the address, that shows the run; and the command that serves its model, whole."""
        shown = (
            f"mlflow ui --backend-store-uri {self._uri}  (run {self.run_id})"
            if self._uri.startswith(SQLITE)
            else f"{self._uri.rstrip('/')}/#/experiments/{self._experiment_id}/runs/{self.run_id}"
        )
        if self._served is None:
            return shown
        return (
            f"{shown}\nserve: MLFLOW_TRACKING_URI={shlex.quote(self._uri)} "
            f"mlflow models serve -m models:/{self._served} --env-manager local"
        )

    def _call(self, method: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        if not self._intact():
            raise PipelineError(f"tracking.uri={self._uri}: the database is gone, or another is in its place")
        within(self._locked_for, self._uri, method, *args, **kwargs)


def outcome(error: BaseException | None) -> tuple[str, str]:
    """MLflow's status of a run that ended with `error`, and the text of it."""
    if error is None:
        return "FINISHED", ""
    return "FAILED" if isinstance(error, Exception) else "KILLED", f"{type(error).__name__}: {error}"


def guarded(uri: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call MLflow: wait while the database is locked, and make what else goes wrong a `PipelineError`."""
    return within(LOCKED_FOR, uri, function, *args, **kwargs)


def within(seconds: float, uri: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do as `guarded`, waiting so many seconds."""
    give_up = time.monotonic() + seconds
    pause = 0.05
    while True:
        try:
            return function(*args, **kwargs)
        except PipelineError:
            raise
        except Exception as error:
            if "database is locked" not in str(error) or time.monotonic() > give_up:
                raise unreachable(uri, error) from error
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def unreachable(uri: str, error: Exception) -> PipelineError:
    """What to tell the user when MLflow fails: the reason, and the ways around."""
    # SQLAlchemy may put how it came to the statement before what the database says
    lines = [line for line in str(error).splitlines() if line and not line.startswith("(raised as a result")]
    reason = (lines or [type(error).__name__])[0]
    start = "" if uri.startswith(SQLITE) else "start it (`mlflow server`), correct tracking.uri, or "
    return PipelineError(
        f"tracking.uri={uri}: MLflow failed: {_cut(reason, 300)}\n{start}use tracking=mlflow (a local file), "
        "tracking=none, or tracking.required=false"
    )


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _key(name: str) -> str:
    return _UNSAFE.sub("_", name)[:MAX_KEY]


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
