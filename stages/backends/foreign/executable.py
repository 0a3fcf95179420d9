"""A foreign runtime's session as an `Executable`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.exporters.levels import storage_offset
from stages.integer.interpreter import check_input
from stages.integer.program import Integers, Program, Value
from stages.integer.validate import validate

Session = Callable[[NDArray[np.float32]], Sequence[NDArray[Any]]]
"""Real input (N, *shape) to the model's outputs, in order."""

LoadSession = Callable[[int, bool], Session]
"""Makes a session for a number of samples; True for one that also gives every value's stored levels."""


def require(package: str, backend: str, extra: str = "bench") -> ModuleType:
    """Import an optional package. Raises `PipelineError` naming the extra of ours that installs it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise PipelineError(
            f"backend={backend} needs the package '{package}', which is not installed ({error}). "
            f"Remedy: pip install '.[{extra}]', or another backend (backend=onednn)"
        ) from error


class ForeignExecutable:
    """Sessions of one program, one a number of samples, since their kernels are prepared for a shape.

    Input levels are dequantized, and quantized back by the session's first node, without loss.
    """

    def __init__(
        self,
        name: str,
        program: Program,
        load: LoadSession,
        notes: tuple[str, ...],
        offset: Callable[[Value], int] = storage_offset,
    ) -> None:
        """`offset` is what the model's levels of a value are stored higher than the program's."""
        validate(program)
        self._offset = offset
        self.name = name
        self.notes = notes
        self._program = program
        self._load = load
        self._sessions: dict[tuple[int, bool], Session] = {}

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reals in, reals out: the session quantizes and dequantizes by itself."""
        (y,) = self._session(len(x), trace=False)(x)
        return y

    def run(self, q: Integers) -> Integers:
        """Levels in, levels out."""
        y = self.predict(self._reals(q))
        value = self._program.values[self._program.output]
        levels: NDArray[Any] = np.rint(y / np.float32(value.scale)) + value.zero_point
        return levels.clip(value.quant_min, value.quant_max).astype(value.dtype)

    def trace(self, q: Integers) -> dict[str, Integers]:
        """Every value by name, from a session of its own that keeps them."""
        _, *stored = self._session(len(q), trace=True)(self._reals(q))
        return {
            value.name: (levels.astype(np.int32) - self._offset(value)).astype(value.dtype)
            for value, levels in zip(self._program.values.values(), stored, strict=True)
        }

    def _reals(self, q: Integers) -> NDArray[np.float32]:
        check_input(self._program, q)
        value = self._program.values[self._program.input]
        reals: NDArray[np.float32] = (q.astype(np.float32) - value.zero_point) * np.float32(value.scale)
        return reals

    def _session(self, samples: int, *, trace: bool) -> Session:
        if (samples, trace) not in self._sessions:
            self._sessions[samples, trace] = self._load(samples, trace)
        return self._sessions[samples, trace]
