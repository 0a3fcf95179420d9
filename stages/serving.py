"""Serves an integer program as an MLflow model: ``loader_module`` of the model that a run logs.

MLflow calls `_load_pyfunc` with the folder of the saved program; requests then run on integers alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import IntegerProgram


@dataclass(frozen=True, kw_only=True)
class ServedProgram:
    """A program behind MLflow's ``predict``."""

    program: IntegerProgram

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> NDArray[np.float32]:
        """Float inputs (N, …) to outputs (N, …), as `IntegerProgram.run` gives them.

        Args:
            data: the inputs, normalized as in training, as an array or nested lists.
            params: ``backend``: the executor, ``reference`` where it is not given.
        """
        x = np.ascontiguousarray(data, dtype=np.float32)
        return self.program.run(x, backend=(params or {}).get("backend", "reference"))


def _load_pyfunc(path: str) -> ServedProgram:
    return ServedProgram(program=IntegerProgram.load(path))
