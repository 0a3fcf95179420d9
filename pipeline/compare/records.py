"""What MLflow knows of the runs, read once and quickly."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pipeline.errors import PipelineError, alternatives
from pipeline.tracking.mlflow_client import mlflow_client
from pipeline.tracking.mlflow_run import SQLITE, guarded
from pipeline.tracking.mlflow_sweep import PARENT

_PAGE = 1000


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Where what a run got right is recorded, sample by sample.

    Args:
        file: among the run's files, arrays in safetensors' format.
        truth: the array of what is right, integers (samples,).
        predicted: the array of what was said, of the same shape; also what the page calls it.
    """

    file: str
    truth: str
    predicted: str

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value:
                raise ValueError(f"{name}='': must be a name")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run got right.

    Args:
        samples: digest of the truth; two runs of one digest saw the same samples.
        correct: bool (samples,).
    """

    samples: str
    correct: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One recorded run; `started` is in seconds since 1970, `files` the address of its artifacts."""

    id: str
    name: str
    experiment_id: str
    status: str
    started: float
    files: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    outcome: Outcome | None = None

    @property
    def parent(self) -> str | None:
        """The id of the run that this one is below."""
        return self.tags.get(PARENT)


def read_runs(
    uri: str,
    predictions: Predictions | None = None,
    *,
    experiment: str | None = None,
    sweep: str | None = None,
    condition: str = "",
) -> list[Run]:
    """The runs that measured anything, the oldest first, with what they got right where it was recorded.

    Args:
        uri: MLflow's tracking URI, ``sqlite:///path`` or ``http(s)://host:port``.
        predictions: what to read of their files; None reads none.
        experiment: name of the experiment; None takes all.
        sweep: only runs whose parent run, or whose tag ``sweep``, is this.
        condition: MLflow's filter, as ``tags.quantizer = 'affine' and metrics.`train/loss` < 0.1``.

    Raises:
        PipelineError: MLflow cannot be reached, or there is no such experiment or run.
    """
    client = _connect(uri)
    experiments = _experiments(client, uri, experiment)
    runs = [run for run in _search(client, uri, list(experiments.values()), condition) if run.metrics]
    if sweep is not None:
        runs = [run for run in runs if sweep in (run.parent, run.tags.get("sweep"))]
    if not runs:
        chosen = {"experiment": experiment, "sweep": sweep, "filter": condition or None}
        given = ", ".join(f"--{name}={value}" for name, value in chosen.items() if value is not None)
        raise PipelineError(
            f"no run with metrics in {uri}{f' matches {given}' if given else ''}; "
            f"experiments there: {', '.join(sorted(experiments)) or '(none)'}"
        )
    # a parent run's metrics are its children's
    parents = {run.parent for run in runs}
    leaves = [run for run in runs if run.id not in parents]
    if predictions is None:
        return leaves
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(8) as pool:
        outcomes = pool.map(lambda run: _outcome(client, run, predictions, Path(scratch)), leaves)
        return [replace(run, outcome=outcome) for run, outcome in zip(leaves, outcomes, strict=True)]


def attach(uri: str, run_id: str, *files: Path) -> None:
    """Add files to a recorded run, finished or not.

    Raises:
        PipelineError: MLflow cannot be reached, or there is no such run.
    """
    client = _connect(uri)
    for file in files:
        guarded(uri, client.log_artifact, run_id, str(file))


def _connect(uri: str) -> Any:
    # MLflow creates a database that is not there, which would hide a mistyped path
    if uri.startswith(SQLITE) and not Path(uri.removeprefix(SQLITE)).is_file():
        raise PipelineError(
            f"--tracking-uri={uri}: there is no such file; run `python -m pipeline` first, "
            "or name the database or server that has the runs"
        )
    return guarded(uri, mlflow_client, uri)


def _experiments(client: Any, uri: str, wanted: str | None) -> dict[str, str]:
    found = {e.name: str(e.experiment_id) for e in guarded(uri, client.search_experiments)}
    if wanted is None:
        return found
    if wanted not in found:
        raise PipelineError(f"--experiment={wanted}: not in {uri}; {alternatives(wanted, found)}")
    return {wanted: found[wanted]}


def _search(client: Any, uri: str, experiment_ids: Sequence[str], condition: str) -> Iterator[Run]:
    token = None
    while True:
        try:
            page = guarded(
                uri,
                client.search_runs,
                list(experiment_ids),
                filter_string=condition,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
        except PipelineError as refusal:
            if condition and getattr(refusal.__cause__, "error_code", "") == "INVALID_PARAMETER_VALUE":
                reason = str(refusal.__cause__).splitlines()[0]
                raise PipelineError(f"--filter={condition}: {reason}") from refusal
            raise
        for run in page:
            yield Run(
                id=run.info.run_id,
                name=run.info.run_name,
                experiment_id=run.info.experiment_id,
                status=run.info.status,
                started=run.info.start_time / 1000,
                files=run.info.artifact_uri,
                params=run.data.params,
                tags=run.data.tags,
                metrics=run.data.metrics,
            )
        token = page.token
        if not token:
            return


def _outcome(client: Any, run: Run, predictions: Predictions, scratch: Path) -> Outcome | None:
    """What the run predicted; None where it recorded no predictions, or none that are readable."""
    file = _fetch(client, run, predictions.file, scratch)
    try:
        arrays = load_file(file) if file is not None else {}
        truth, predicted = arrays[predictions.truth], arrays[predictions.predicted]
    except (OSError, SafetensorError, KeyError):
        return None
    classes = truth.dtype.kind in "iu" and predicted.dtype.kind in "iu"
    if truth.shape != predicted.shape or truth.ndim != 1 or not classes:
        return None
    digest = sha256(np.ascontiguousarray(truth, dtype="<i8").tobytes()).hexdigest()
    return Outcome(samples=digest, correct=truth == predicted)


def _fetch(client: Any, run: Run, name: str, scratch: Path) -> Path | None:
    address = urlsplit(run.files)
    if address.scheme in ("", "file"):
        return Path(unquote(address.path)) / name
    folder = scratch / run.id
    folder.mkdir()
    try:
        return Path(client.download_artifacts(run.id, name, str(folder)))
    except Exception:  # a store of any kind, with errors of its own; most often it has no such file
        return None
