"""The reference: numpy kernels that follow the program's table operator by operator, in every mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from stages.backends.base import EXACT, Tolerance, check_counts
from stages.integer.interpreter import Interpreter
from stages.integer.program import Integers, Program


class ReferenceExecutable:
    """The interpreter as an executable."""

    name = "reference"

    def __init__(self, interpreter: Interpreter, notes: tuple[str, ...] = ()) -> None:
        self.notes = notes
        self._interpreter = interpreter

    def run(self, q: Integers) -> Integers:
        """Levels in, levels out."""
        return self._interpreter.run(q)

    def trace(self, q: Integers) -> dict[str, Integers]:
        """Every value by name."""
        return self._interpreter.trace(q)

    def profile(self, q: Integers) -> dict[str, float]:
        """Seconds by operator."""
        return self._interpreter.profile(q)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Runs anywhere numpy does, exactly.

    Args:
        threads: batches in work at a time; None for one a core.
        batch_size: samples that go through the network together.
    """

    name: ClassVar[str] = "reference"
    exact: ClassVar[frozenset[str]] = frozenset({"fixed_point", "fixed_point_single", "float", "tflm"})
    tolerance: ClassVar[Tolerance] = EXACT

    threads: int | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_counts(threads=self.threads, batch_size=self.batch_size)

    def compile(self, program: Program, notes: tuple[str, ...] = ()) -> ReferenceExecutable:
        """Prepare the numpy kernels; `notes` are passed on."""
        interpreter = Interpreter(program, batch_size=self.batch_size, threads=self.threads)
        return ReferenceExecutable(interpreter, notes)


BACKEND = Reference
