"""Where an engine's time goes: each operator's share of what the CPU's int8 units can do.

The limit is measured: ``torch._int_mm`` of two 1024×1024 int8 matrices, 2·1024³ operations, the best of many
runs. An operator's operations are 2 a multiply-accumulate; what has none shows its time only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from stages.backends.base import Executable
from stages.integer.program import Integers, Op, Program
from stages.measuring.timing import Clock, timer

SIZE = 1024
OPERATIONS = 2 * SIZE**3


@runtime_checkable
class Profiled(Protocol):
    """An executable that can tell its operators' times."""

    def profile(self, q: Integers) -> Mapping[str, float]:
        """Seconds by operator's output, in order."""


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """One operator.

    Args:
        name: its output.
        op: its kind.
        operations: 2 a multiply-accumulate, for all samples; 0 where it has none.
        seconds: median over runs.
        share: operations a second over the limit.
    """

    name: str
    op: str
    operations: int
    seconds: float
    share: float


def int8_limit(threads: int, runs: int = 50, clock: Clock = "wall") -> float:
    """Operations a second of the largest int8 product that fits the caches well, on `threads` threads."""
    seconds = timer(int8_product(), clock)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        best = math.inf
        for _ in range(runs):
            best = min(best, seconds(1))
    finally:
        torch.set_num_threads(before)
    return OPERATIONS / best


def int8_product() -> Callable[[], object]:
    """The product of two drawn int8 matrices, `OPERATIONS` a call."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-128, 128, (SIZE, SIZE), dtype=torch.int8, generator=generator) for _ in range(2))
    return lambda: torch._int_mm(a, b)


def operations(op: Op, program: Program) -> int:
    """Operations of one sample."""
    if "weight" not in op.tensors:
        return 0
    weight = op.tensors["weight"]
    positions = math.prod(program.values[op.output].shape) // weight.shape[0]
    return 2 * int(weight.size) * int(positions)


def layer_times(
    program: Program, executable: Executable, q: Integers, limit: float, runs: int = 20
) -> tuple[LayerTime, ...]:
    """Each operator's median time and share of `limit`; empty where the executable does not tell."""
    if not isinstance(executable, Profiled):
        return ()
    executable.profile(q)
    profiles = [executable.profile(q) for _ in range(runs)]
    rows = []
    for op in program.ops:
        seconds = float(np.median([profile[op.output] for profile in profiles]))
        work = operations(op, program) * len(q)
        share = work / max(seconds, 1e-12) / limit
        rows.append(LayerTime(name=op.output, op=op.op, operations=work, seconds=seconds, share=share))
    return tuple(rows)
