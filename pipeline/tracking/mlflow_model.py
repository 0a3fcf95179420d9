"""Logs an artifact as an MLflow model: ``python_function``, loaded by a module of the project, no pickle."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pipeline.artifact import ServedModel


def log_model(client: Any, experiment: str, run_id: str, model: ServedModel) -> str:
    """Log `model` as an output of an open run, with signature and input example; returns its identifier.

    A run that was interrupted after this, and goes on, keeps its one model. Step by step through the client:
    MLflow's own ``log_model`` works on the process's current run and experiment, and loads the model for a
    prediction.
    """
    from mlflow import pyfunc
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    example = model.example
    signature = ModelSignature(
        inputs=Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *model.outputs))]),
        params=ParamSchema([ParamSpec(name, "string", value) for name, value in model.params.items()]),
    )
    before = client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
    logged = next((known for known in before if known.name == model.name), None)
    if logged is None:
        logged = client.create_logged_model(experiment, name=model.name, source_run_id=run_id)
    described = Model(
        artifact_path=logged.artifact_location,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
        run_id=run_id,
    )
    with tempfile.TemporaryDirectory(prefix="model-") as folder, _quiet():
        pyfunc.save_model(
            f"{folder}/model",
            mlflow_model=described,
            loader_module=model.loader_module,
            data_path=str(model.folder),
            signature=signature,
            input_example=example,
            pip_requirements=[*model.requirements, *(f"code/{wheel.name}" for wheel in model.code)],
            code_paths=[str(wheel) for wheel in model.code] or None,
            model_config=dict(model.config) or None,
        )
        client.log_model_artifacts(logged.model_id, f"{folder}/model")
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    outputs = client.get_run(run_id).outputs
    if outputs is None or logged.model_id not in {output.model_id for output in outputs.model_outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow warns where the project runs from its folder, not installed."""
    logger = logging.getLogger("mlflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
