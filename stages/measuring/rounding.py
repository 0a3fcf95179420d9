"""What a rounding costs: one program in every requantization mode, on the same samples.

A program holds the ratios of scales for all modes, so that the same weights run in each: on the backend
in use where that is exact, else on the reference, which is in all. What differs is the rounding alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import RoundingCost, Roundings
from stages.backends.base import Backend, Executable
from stages.backends.reference import Reference
from stages.integer.interpreter import quantize_input
from stages.integer.program import Integers, Program, Requantize

MODES: tuple[Requantize, ...] = get_args(Requantize)


@dataclass
class _Counts:
    equal: int = 0
    elements: int = 0
    max_off_by: int = 0
    same_top1: int = 0
    correct: int = 0


class ModeComparison:
    """Counts over batches, all modes on the same samples.

    Args:
        program: in the chosen mode.
        backend: in use.
    """

    def __init__(self, program: Program, backend: Backend) -> None:
        self._program = program
        self._modes = {mode: _exact(replace(program, requantize=mode), backend) for mode in MODES}
        self._counts = {mode: _Counts() for mode in MODES}
        self._samples = 0

    def update(self, x: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Run every mode on `x`, float (N, C, H, W) with labels int64 (N,), and count."""
        q = quantize_input(self._program, x)
        levels = {mode: executable.run(q) for mode, executable in self._modes.items()}
        chosen = levels[self._program.requantize]
        chosen_top1 = _top1(chosen)
        for mode, counts in self._counts.items():
            difference = np.abs(levels[mode].astype(np.int16) - chosen)
            top1 = _top1(levels[mode])
            counts.equal += int((difference == 0).sum())
            counts.elements += difference.size
            counts.max_off_by = max(counts.max_off_by, int(difference.max(initial=0)))
            counts.same_top1 += int((top1 == chosen_top1).sum())
            counts.correct += int((top1 == labels).sum())
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
                same_top1=counts.same_top1 / self._samples,
                top1=counts.correct / self._samples,
            )
            for mode, counts in sorted(
                self._counts.items(), key=lambda item: item[0] != self._program.requantize
            )
        )
        return Roundings(costs=tuple(costs))


def _exact(program: Program, backend: Backend) -> Executable:
    if program.requantize in backend.exact:
        executable = backend.compile(program)
        if executable.name == backend.name:
            return executable
    return Reference().compile(program)


def _top1(levels: Integers) -> NDArray[np.int64]:
    classes: NDArray[np.int64] = levels.reshape(len(levels), -1).argmax(axis=1)
    return classes
