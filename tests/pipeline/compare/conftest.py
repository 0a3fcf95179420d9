"""Synthetic runs: a grid of choices whose figures follow from them, and their record in MLflow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.compare.definition import configured
from pipeline.compare.figures import Contents, Figure
from pipeline.compare.records import Outcome, Run
from pipeline.tracking.mlflow_client import mlflow_client

SAMPLES = 400
RECORDED = 8
"""So many of the runs are in the database, each of whose commits waits for the disk."""

GRID = {
    "quantizer": ("affine", "symmetric", "power_of_two"),
    "calibration": ("minmax", "kl"),
    "granularity": ("per_channel", "per_tensor"),
    "quantizer.weight.bits": ("8", "4"),
}
COST = {"power_of_two": 0.01, "per_tensor": 0.03, "4": 0.06, "minmax": 0.004}


def make_run(index: int, options: dict[str, str], **changes: Any) -> Run:
    """One run of a grid; its accuracy is what its options cost, and a little noise."""
    noise = np.random.default_rng(index)
    labels = np.random.default_rng(0).integers(0, 10, SAMPLES)
    error = 0.02 + sum(COST.get(option, 0.0) for option in options.values())
    wrong = np.random.default_rng(1).random(SAMPLES) + noise.normal(0, 0.01, SAMPLES) < error
    top1 = 1 - float(wrong.mean())
    size = 19018 * int(options.get("quantizer.weight.bits", "8")) / 8 + 400
    groups = {name: option for name, option in options.items() if "." not in name}
    settings = {name: option for name, option in options.items() if "." in name}
    values: dict[str, Any] = {
        "id": sha256(str(index).encode()).hexdigest()[:32],
        "name": f"10-15-00/{index}",
        "experiment_id": "1",
        "status": "FINISHED",
        "started": 1.7e9 + index,
        "files": "",
        "params": {f"{name}._target_": f"stages.{name}" for name in ("model", "data", *groups)}
        | {"seed": "0", "tracking.uri": f"sqlite:///{index}.db"}
        | settings,
        "tags": {"model": "mobilenet_digits", "data": "digits", "host": "here", "seed": "0"}
        | groups
        | {"overrides": " ".join(f"{name}={option}" for name, option in options.items())},
        "metrics": {
            "float/top1": 0.98,
            "simulated/top1": top1,
            "integer/top1": top1,
            "integer/agreement": 1 - float(noise.random()) / 200,
            "integer/sqnr_db": 40 - 300 * error,
            "model/integer_bytes": size,
            "model/compression": 76072 / size,
            "integer/images_per_second": (7000 if "affine" in groups.values() else 9000)
            - 1800 * noise.random(),
        },
        "outcome": Outcome(samples=sha256(labels.tobytes()).hexdigest(), correct=~wrong),
    }
    return Run(**(values | changes))


def grid(**extra: Sequence[str]) -> Iterator[dict[str, str]]:
    """Every combination of options."""
    options = GRID | extra
    for choice in itertools.product(*options.values()):
        yield dict(zip(options, choice, strict=True))


@pytest.fixture(scope="session")
def runs() -> list[Run]:
    """24 runs of a full grid."""
    return [make_run(index, options) for index, options in enumerate(grid())]


@pytest.fixture(scope="session")
def contents() -> Contents:
    """What the shipped configuration shows."""
    return configured()


ERROR = Figure(label="integer RMSE", better="lower", unit="mm", role="quality", parts=("best", "table"))


@pytest.fixture(scope="session")
def errors() -> Contents:
    """A regression's: the quality is an error, the speed a rate."""
    return Contents(
        figures={
            "integer/rmse": ERROR,
            "model/integer_bytes": Figure(label="size", better="lower", digits=0, role="size"),
            "integer/rate": Figure(label="rate", better="higher", digits=0, role="speed"),
        }
    )


@pytest.fixture(scope="session")
def erring(runs: list[Run]) -> list[Run]:
    """The grid's runs, measured by their error."""
    return [
        replace(
            run,
            outcome=None,
            metrics={
                "integer/rmse": 1 - run.metrics["integer/top1"],
                "model/integer_bytes": run.metrics["model/integer_bytes"],
                "integer/rate": run.metrics["integer/images_per_second"],
            },
        )
        for run in runs
    ]


@pytest.fixture(scope="session")
def make() -> Callable[..., Run]:
    """Makes a run."""
    return make_run


@pytest.fixture(scope="session")
def recorded(runs: list[Run]) -> list[Run]:
    """The runs that are in the database."""
    return runs[:RECORDED]


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory, recorded: list[Run]) -> str:
    """The first runs as children of a sweep in an SQLite database; returns its URI."""
    folder = tmp_path_factory.mktemp("compare")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = mlflow_client(uri)
    experiment = client.create_experiment("quantization", artifact_location=(folder / "files").as_uri())
    record(client, experiment, recorded, folder)
    return uri


def record(client: Any, experiment: str, runs: Sequence[Run], scratch: Path) -> str:
    """Log runs under a parent; returns the parent's id."""
    from mlflow.entities import Metric, Param, RunTag

    parent = client.create_run(experiment, run_name="sweep", start_time=1_600_000_000_000).info.run_id
    client.log_metric(parent, "sweep/runs", len(runs))
    labels = np.random.default_rng(0).integers(0, 10, SAMPLES)
    for run in runs:
        created = client.create_run(
            experiment,
            run_name=run.name,
            start_time=round(run.started * 1000),
            tags={"mlflow.parentRunId": parent},
        )
        client.log_batch(
            created.info.run_id,
            metrics=[Metric(name, value, 0, 0) for name, value in run.metrics.items()],
            params=[Param(name, value) for name, value in run.params.items()],
            tags=[RunTag(name, value) for name, value in run.tags.items()],
        )
        if run.outcome is not None:
            predicted = np.where(run.outcome.correct, labels, (labels + 1) % 10)
            file = scratch / "predictions.safetensors"
            save_file({"labels": labels, "integer": predicted}, file)
            client.log_artifact(created.info.run_id, str(file))
        client.set_terminated(created.info.run_id, run.status)
    return str(parent)
