"""What a rounding costs: one program in every requantization mode, on the same samples.

A program holds the ratios of scales for all modes, so that the same weights run in each: on the backend
in use where that is exact, else on the reference, which is in all. What differs is the rounding alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.artifacts import RoundingCost, Roundings
from stages.backends.base import Backend, Executable
from stages.backends.reference import Reference
from stages.integer.interpreter import dequantize_output, quantize_input
from stages.integer.program import Integers, Program, Requantize
from stages.tasks.base import Targets, Task, agreeing

MODES: tuple[Requantize, ...] = ("fixed_point", "fixed_point_single", "float")
"""Those that any program runs in; a profile's program runs in its own too."""


@dataclass
class _Counts:
    equal: int = 0
    elements: int = 0
    max_off_by: int = 0
    agreeing: int = 0
    tally: Tensor | None = None


class ModeComparison:
    """Counts over batches, all modes on the same samples.

    Args:
        program: in the chosen mode.
        backend: in use.
        task: what the outputs mean.
    """

    def __init__(self, program: Program, backend: Backend, task: Task) -> None:
        self._task = task
        self._program = program
        modes = dict.fromkeys((*MODES, program.requantize) if _in_all(program) else (program.requantize,))
        self._modes = {mode: _exact(replace(program, requantize=mode), backend) for mode in modes}
        self._counts = {mode: _Counts() for mode in modes}
        self._samples = 0

    def update(self, x: NDArray[np.float32], labels: Targets) -> None:
        """Run every mode on `x`, a batch (N, …) as the network takes it, with its labels, and count."""
        q = quantize_input(self._program, x)
        levels = {mode: executable.run(q) for mode, executable in self._modes.items()}
        chosen = levels[self._program.requantize]
        decided = self._decisions(chosen)
        y = torch.from_numpy(labels)
        for mode, counts in self._counts.items():
            difference = np.abs(levels[mode].astype(np.int16) - chosen)
            counts.equal += int((difference == 0).sum())
            counts.elements += difference.size
            counts.max_off_by = max(counts.max_off_by, int(difference.max(initial=0)))
            counts.agreeing += int(agreeing(self._decisions(levels[mode]), decided).sum())
            outputs = torch.from_numpy(dequantize_output(self._program, levels[mode]))
            tally = self._task.tally(outputs, y)
            counts.tally = tally if counts.tally is None else counts.tally + tally
        self._samples += len(x)

    def roundings(self, exact: frozenset[str]) -> Roundings:
        """What each mode costs, the chosen one first; none where there were no samples.

        Args:
            exact: the modes that the backend in use computes exactly.
        """
        if not self._samples:
            return Roundings(costs=())
        costs = (
            RoundingCost(
                mode=mode,
                exact=mode in exact,
                equal_share=counts.equal / counts.elements,
                max_off_by=counts.max_off_by,
                agreement=counts.agreeing / self._samples,
                measure=self._task.batched.key,
                quality=self._quality(counts),
            )
            for mode, counts in sorted(
                self._counts.items(), key=lambda item: item[0] != self._program.requantize
            )
        )
        return Roundings(costs=tuple(costs))

    def _decisions(self, levels: Integers) -> NDArray[Any]:
        return self._task.decisions(dequantize_output(self._program, levels))

    def _quality(self, counts: _Counts) -> float | None:
        score = math.nan if counts.tally is None else self._task.score(counts.tally)
        return score if math.isfinite(score) else None


def _in_all(program: Program) -> bool:
    """Whether our own modes compute the program: not where averages leave padding out of their count."""
    pools = [op.attrs for op in program.ops if op.op == "avg_pool2d" and program.requantize == "tflm"]
    return not any(any(pool["padding"]) or pool.get("ceil_mode") for pool in pools)


def _exact(program: Program, backend: Backend) -> Executable:
    if program.requantize in backend.exact:
        executable = backend.compile(program)
        if executable.name == backend.name:
            return executable
    return Reference().compile(program)
