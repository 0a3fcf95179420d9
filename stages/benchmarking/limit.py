"""The int8 limit of a CPU that is held to an instruction set: measured in a process that is held, too."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stages.benchmarking.competitor import Case
from stages.benchmarking.layers import OPERATIONS, int8_limit, int8_product
from stages.benchmarking.process import started
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class Int8Product:
    """The product that `int8_limit` times, as a competitor."""

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Draw the matrices."""
        return int8_product()


def held_int8_limit(case: Case, runs: int = 50) -> float:
    """Operations a second of the int8 product on the case's threads and instruction set, the best of `runs`.

    Raises `FailedError` where the process that measures it fails.
    """
    if case.isa is None:
        return int8_limit(case.threads, runs, case.clock)
    best = math.inf
    with started(Int8Product(), replace(case, expected=None)) as seconds:
        for _ in range(runs):
            best = min(best, seconds(1))
    return OPERATIONS / best
