"""A runtime of TFLite files as an `Executable`: levels in, levels out, channels last in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import PipelineError
from stages.backends.foreign.tflite_sessions import TfliteSession
from stages.integer.interpreter import check_input
from stages.integer.profiles.adapt import to_tflm
from stages.integer.program import Integers, Program, Value
from stages.integer.validate import validate

if TYPE_CHECKING:
    from stages.exporters.tflite_file.model import TfliteModel

LoadTflite = Callable[["TfliteModel", tuple[int, ...]], TfliteSession]
"""Makes a session of a file that gives the tensors with these indices."""


class TfliteExecutable:
    """Sessions of one program, one a number of samples, since a file names it.

    A program in another arithmetic than ``tflm`` is brought to TFLite's form first; its values' levels are
    those of the form in the program's own scales.

    Args:
        name: the backend's.
        program: what to run.
        load: makes a session.
        batch_size: most samples of a file.
        notes: what a reader of its results should know.

    Raises:
        PipelineError: the program has no form in TFLite; says which operators, and the remedy.
    """

    def __init__(
        self, name: str, program: Program, load: LoadTflite, *, batch_size: int, notes: tuple[str, ...] = ()
    ) -> None:
        from stages.exporters.tflite_file.model import problems

        validate(program)
        try:
            self._form = to_tflm(program)
        except ValueError as error:
            raise PipelineError(f"backend={name}: {error}") from error
        if found := problems(self._form):
            raise PipelineError(f"backend={name}: " + "; ".join(found))
        self.name = name
        self.notes = notes
        if program.requantize != "tflm":
            self.notes += (
                f"{name} rounds as TFLite does; convert.arithmetic=tflm makes a program that says so",
            )
        self._program = program
        self._load = load
        self._batch_size = batch_size
        self._sessions: dict[tuple[int, bool], tuple[TfliteModel, TfliteSession]] = {}

    def run(self, q: Integers) -> Integers:
        """Levels in, levels out."""
        name = self._program.output
        parts = [self._part(batch, (name,), trace=False)[name] for batch in self._batches(q)]
        return np.concatenate(parts)

    def trace(self, q: Integers) -> dict[str, Integers]:
        """Every value by name, from a session that keeps them."""
        names = tuple(self._program.values)
        parts = [self._part(batch, names, trace=True) for batch in self._batches(q)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _batches(self, q: Integers) -> list[Integers]:
        check_input(self._program, q)
        x, form = (program.values[self._program.input] for program in (self._program, self._form))
        levels = rescaled(q, x, form)
        return [levels[i : i + self._batch_size] for i in range(0, max(len(q), 1), self._batch_size)]

    def _part(self, q: Integers, names: tuple[str, ...], *, trace: bool) -> dict[str, Integers]:
        """The named values for samples that go together."""
        if not len(q):
            empty = {name: self._program.values[name] for name in names}
            return {name: np.empty((0, *value.shape), value.dtype) for name, value in empty.items()}
        model, session = self._session(len(q), trace=trace)
        wanted = _wanted(model, trace)
        found = dict(zip(wanted, session(model.values[self._form.input].layout.to_file(q)), strict=True))
        result = {}
        for name in names:
            value, form = self._program.values[name], self._form.values[name]
            if name in model.constants:
                levels: NDArray[Any] = np.repeat(model.constants[name][None], len(q), axis=0)
            else:
                at = model.values[name]
                levels = at.layout.from_file(found[at.tensor], form.shape)
            result[name] = rescaled(levels, form, value)
        return result

    def _session(self, samples: int, *, trace: bool) -> tuple[TfliteModel, TfliteSession]:
        from stages.exporters.tflite_file.model import program_to_tflite

        if (samples, trace) not in self._sessions:
            model = program_to_tflite(self._form, samples, trace=trace)
            self._sessions[samples, trace] = (model, self._load(model, _wanted(model, trace)))
        return self._sessions[samples, trace]


def _wanted(model: TfliteModel, trace: bool) -> tuple[int, ...]:
    return tuple(sorted({at.tensor for at in model.values.values()})) if trace else model.outputs


def rescaled(q: Integers, have: Value, want: Value) -> Integers:
    """Levels of one value as the nearest levels of another that stands for the same reals."""
    if (have.scale, have.zero_point, have.dtype) == (want.scale, want.zero_point, want.dtype):
        return q
    real = (q.astype(np.float64) - have.zero_point) * (have.scale / want.scale)
    levels: NDArray[Any] = np.rint(real) + want.zero_point
    return levels.clip(want.quant_min, want.quant_max).astype(want.dtype)
