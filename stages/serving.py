"""Serves an integer program as an MLflow model: ``loader_module`` of the model that a run logs.

MLflow calls `_load_pyfunc` with the folder of the saved program; requests then run on integers alone. What is
wrong with a request is said as MLflow's INVALID_PARAMETER_VALUE, which its server answers with 400.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.artifacts import IntegerProgram
from stages.artifacts.integer_program import MAX_SAMPLES, SERVED_BY


@dataclass(frozen=True, kw_only=True)
class ServedProgram:
    """A program behind MLflow's ``predict``; from any number of threads, and in the children of a fork.

    Args:
        program: what answers.
        max_samples: most samples of one request.
    """

    program: IntegerProgram
    max_samples: int = MAX_SAMPLES

    def __post_init__(self) -> None:
        if type(self.max_samples) is not int or self.max_samples < 1:
            raise PipelineError(f"max_samples={self.max_samples!r}: must be an integer of at least 1")

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Float inputs (N, …) to outputs (N, …), as `IntegerProgram.run` gives them.

        Args:
            data: the inputs, normalized as in training, as an array or nested lists.
            params: ``backend``: the executor, ``native`` where it is not given.

        Raises:
            mlflow.exceptions.MlflowException: INVALID_PARAMETER_VALUE: no numbers, another shape, ragged,
                none or too many samples, NaN or infinity, an unknown backend; says which, and what to send.
        """
        try:
            x = self._numbers(data)
            return self.program.run(x, backend=str((params or {}).get("backend", SERVED_BY)))
        except ValueError as error:
            from mlflow.exceptions import MlflowException  # who loads it has it

            raise MlflowException.invalid_parameter_value(str(error)) from error

    def _numbers(self, data: Any) -> NDArray[np.float32]:
        """The inputs as an array. Raises ValueError for all that is none of this program's."""
        values = self.program.program.values[self.program.program.input]
        shape = f"(N, {', '.join(map(str, values.shape))})"
        if isinstance(data, Mapping):
            raise ValueError(f"inputs: has names ({', '.join(map(str, data))}); must be one array {shape}")
        if hasattr(data, "to_numpy"):  # a table: each sample is a row
            data = data.to_numpy()
        try:
            count = len(data)
        except TypeError:
            raise ValueError(f"inputs: must be an array {shape}, and is {type(data).__name__}") from None
        if not 1 <= count <= self.max_samples:
            raise ValueError(
                f"inputs: {count} samples; must be 1 .. {self.max_samples}. Remedy: send them in several "
                "requests, or load the model with another max_samples"
            )
        try:
            x = np.asarray(data)
        except ValueError:
            raise ValueError(f"inputs: rows of unlike lengths; must be an array {shape}") from None
        if x.dtype.kind not in "biuf":
            raise ValueError(f"inputs: must be an array {shape} of numbers, and holds {x.dtype.name}")
        if x.shape[1:] != values.shape:
            raise ValueError(f"inputs: of shape {x.shape}; must be {shape}")
        with np.errstate(over="ignore"):  # beyond float32 is infinity, which is refused
            x = np.ascontiguousarray(x, dtype=np.float32)
        finite = np.isfinite(x).reshape(count, -1).all(axis=1)
        if not finite.all():
            raise ValueError(
                f"inputs: sample {int(finite.argmin())} of {count} holds NaN or infinity. Remedy: look where "
                "it comes from, and replace it"
            )
        return x


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> ServedProgram:
    return ServedProgram(program=IntegerProgram.load(path), **(model_config or {}))
