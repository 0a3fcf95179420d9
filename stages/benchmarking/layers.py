"""Where an engine's time goes: each operator's share of what the CPU's int8 units can do.

`limit` measures what those can do. An operator's operations are 2 a multiply-accumulate; what has none shows
its time only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from stages.backends.base import Executable
from stages.backends.native_kernels.segments import work
from stages.integer.program import Integers, Op, Program


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


def operations(op: Op, program: Program) -> int:
    """Operations of one sample."""
    return 2 * work(op, program) if "weight" in op.tensors or op.op == "matmul" else 0


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
