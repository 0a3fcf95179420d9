"""Logs an artifact as an MLflow model: ``python_function``, loaded by a module of the project, no pickle."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from pipeline.artifact import ServedModel


def log_model(uri: str, run_id: str, model: ServedModel) -> None:
    """Log `model` to an open run, with signature and input example."""
    import mlflow
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    mlflow.set_tracking_uri(uri)
    example = model.example
    signature = ModelSignature(
        inputs=Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *model.outputs))]),
        params=ParamSchema([ParamSpec(name, "string", value) for name, value in model.params.items()]),
    )
    with _quiet():
        Model.log(
            artifact_path=None,
            name=model.name,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            loader_module=model.loader_module,
            data_path=str(model.folder),
            signature=signature,
            input_example=example,
            pip_requirements=list(model.requirements),
            validate_serving_input=False,  # loads the model for a prediction; the tests do
        )


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
