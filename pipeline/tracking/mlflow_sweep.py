"""Runs that belong together in MLflow: the parent run of a sweep, its children, and one that comes back.

A child has the tag ``mlflow.parentRunId``, which MLflow's pages group by, and the tag ``fingerprint``, by
which the same job is found again. Names of tags are MLflow's own where it has one.
"""

from __future__ import annotations

import getpass
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.tracking.base import FINGERPRINT, Job, Record
from pipeline.tracking.mlflow_run import MAX_KEY, guarded

PARENT = "mlflow.parentRunId"
SOURCE = "python -m pipeline"


def job_tags(job: Job) -> dict[str, str]:
    """The tags of a child run."""
    return {PARENT: job.sweep, FINGERPRINT: job.fingerprint}


def find_job(client: Any, experiment: str, job: Job) -> Record | None:
    """The latest run of a job, a finished one first."""
    return _latest(client, experiment, job_tags(job))


def find_or_create(client: Any, experiment: str, tags: Mapping[str, str], *, resume: bool) -> Record:
    """The latest parent run of a sweep, running again; or a new one, named by what it sweeps over."""
    found = _latest(client, experiment, {FINGERPRINT: tags[FINGERPRINT]}) if resume else None
    if found is not None:
        reopen(client, found.run_id)
        return found
    name = tags.get("overrides") or "/".join(Path(tags["sweep"]).parts[-2:])
    return _record(create(client, experiment, name, tags))


def create(
    client: Any, experiment: str, name: str, tags: Mapping[str, str], *, when: int | None = None
) -> Any:
    """A new run, begun now or at `when`, with what MLflow's pages show of who began it, and how."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as containers have
        user = ""
    origin = {"mlflow.user": user, "mlflow.source.name": SOURCE, "mlflow.source.type": "LOCAL"}
    return client.create_run(experiment, when, run_name=name[:MAX_KEY], tags=origin | dict(tags))


def find_run(client: Any, run_id: str) -> Any | None:
    """A run; None where there is none of that identifier: its database was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise


def reopen(client: Any, run_id: str) -> Any:
    """Set a run to RUNNING, without the error it had; returns it."""
    run = client.get_run(run_id)
    client.update_run(run_id, status="RUNNING")
    if "error" in run.data.tags:
        client.delete_tag(run_id, "error")
    return run


def fetch(client: Any, uri: str, run_id: str, folder: Path) -> Record:
    """A run's record, and its ``.hydra`` in `folder`."""
    from mlflow.exceptions import MlflowException

    try:
        record = _record(client.get_run(run_id))
    except MlflowException as error:
        raise PipelineError(f"run '{run_id}': not found in {uri}; give the id that MLflow shows") from error
    if not any(file.path == ".hydra" for file in guarded(uri, client.list_artifacts, run_id)):
        raise PipelineError(
            f"run '{run_id}' has no configuration among its files ({record.tags.get('mlflow.runName', '')}); "
            "give the id of a single run, not of a sweep, that ended by itself"
        )
    guarded(uri, client.download_artifacts, run_id, ".hydra", str(folder))
    return record


def _latest(client: Any, experiment: str, tags: Mapping[str, str]) -> Record | None:
    condition = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    newest_first = ["attributes.start_time DESC"]
    records = [_record(run) for run in client.search_runs([experiment], condition, order_by=newest_first)]
    return next((record for record in records if record.finished), records[0] if records else None)


def _record(run: Any) -> Record:
    finished = run.info.status == "FINISHED"
    metrics = _finite(run.data.metrics)
    return Record(run_id=run.info.run_id, finished=finished, metrics=metrics, tags=run.data.tags)


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """The figures without NaN and infinities, in whose place SQLite has the largest double of that sign.

    A run records none; runs of earlier versions did, and no replay would give theirs again.
    """
    return {
        name: value
        for name, value in metrics.items()
        if math.isfinite(value) and abs(value) < sys.float_info.max
    }
