"""What a saved program says of images and arrays: ``python -m pipeline.predict``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.console import Console
from pipeline.errors import ConfigError, PipelineError
from stages.artifacts.deployed import read_deployed
from stages.backends.base import Backend, Executable, predict
from stages.data.description import Description
from stages.data.inputs import GivenInputs, InputBatch
from stages.integer.program import Program
from stages.tasks.answering import Answer, Answering, Wording, load_task, values
from stages.tasks.classification import Classification

MOVES = frozenset({"reshape", "permute", "slice", "requantize"})
"""Operators that leave the meaning of levels as it is."""


@dataclass(frozen=True, kw_only=True)
class Predict:
    """Run samples through a program, and put each answer as its task does.

    Args:
        backend: executor of the integer program; None is refused.
        top: how many classes to list.
        batch_size: samples at a time.
        task: what the outputs mean; None for what the program's folder says.
        preprocessing: a ``preprocessing.json``, or its folder, in the place of the program's own.
    """

    backend: Backend | None = None
    top: int = 5
    batch_size: int = 64
    task: str | None = None
    preprocessing: Path | None = None

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top={self.top}: must be at least 1")
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}: must be at least 1")

    def run(
        self,
        program: Path,
        inputs: Sequence[str],
        console: Console,
        write: Callable[[Answer], None],
    ) -> int:
        """Answer sample by sample, in order; returns how many could not be read.

        Args:
            program: the folder that a run left, or a .tflite or .onnx file.
            inputs: as `GivenInputs` takes them.
            console: for progress, notes, and a line for each input that cannot be read.
            write: takes each answer, ``{"input": …, "row": …, …}``; the row where it is of an array.

        Raises:
            PipelineError: the program cannot be read, or does not run on the backend.
        """
        if self.backend is None:
            raise ConfigError("backend=simulation runs no integer program. Remedy: backend=native or another")
        integers, description = read_deployed(program, self.preprocessing)
        answers = self._answers(integers.program, description, console)
        named = GivenInputs(inputs, integers.program.values[integers.program.input].shape, description)
        if named.images and (how := named.guess) is not None:
            console.say(
                f"note: nothing says what becomes of an image before the program; it is scaled to cover "
                f"{how.size} and its centre cropped{'' if description else ', pixels are 0 .. 1'} "
                "(preprocessing=PATH says otherwise)"
            )
        executable = self.backend.compile(integers.program)
        for note in executable.notes:
            console.say(f"note: {note}")
        unanswered = 0
        with console.progress("predicting", len(named)) as advance:
            for batch in named.batches(self.batch_size):
                unanswered += len(batch.refused)
                self._answer(batch, executable, integers.program, answers, write)
                for place, why in batch.refused.items():
                    console.say(f"{place}: {why}")
                advance(len(batch))
        return unanswered

    def _answer(
        self,
        batch: InputBatch,
        executable: Executable,
        program: Program,
        answers: Callable[[Any], list[Answer]],
        write: Callable[[Answer], None],
    ) -> None:
        if not batch.places:
            return
        said = answers(predict(executable, program, batch.x))
        for place, answer in zip(batch.places, said, strict=True):
            row = {} if place.row is None else {"row": place.row}
            write({"input": place.input, **row, **answer})

    def _answers(
        self, program: Program, description: Description | None, console: Console
    ) -> Callable[[Any], list[Answer]]:
        """The function from outputs to answers."""
        shape = program.values[program.output].shape
        named = self.task or (None if description is None else description.task)
        if named is None:
            several = len(shape) == 1 and shape[0] > 1
            named = Classification.name if several else None
            kind = "are taken for classes" if several else "are given as they are"
            console.say(
                f"note: nothing says what the program's outputs mean; they {kind} (task=NAME says otherwise)"
            )
        names = None if description is None else description.classes
        wording = Wording(names=names, top=self.top, shares=_ends_in_softmax(program))
        try:
            task = None if named is None else load_task(named)
        except PipelineError:
            if self.task is not None:
                raise
            task = None
            console.say(f"note: task '{named}' is not the pipeline's own; its outputs are given as they are")
        if not isinstance(task, Answering):
            return values
        try:
            task.answers(np.zeros((1, *shape), np.float32), wording)
        except (ValueError, IndexError) as error:
            raise PipelineError(
                f"task={named}: the program's outputs are {('N', *shape)}, which mean no such thing. "
                "Remedy: task=NAME of what it was trained for"
            ) from error
        return lambda outputs: task.answers(outputs, wording)


def _ends_in_softmax(program: Program) -> bool:
    """Whether the program's outputs are probabilities."""
    made_by = {op.output: op for op in program.ops}
    name = program.output
    while (op := made_by.get(name)) is not None and op.op in MOVES:
        name = op.inputs[0]
    return op is not None and op.op == "softmax"
