"""oneDNN: 8-bit kernels of x86 CPUs (AVX-512 VNNI, AMX, AVX2) through PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import torch

from pipeline.errors import PipelineError
from stages.backends.base import ONE_LEVEL, Executable, Tolerance, check_counts
from stages.backends.onednn_kernels.layers import Layers
from stages.backends.onednn_kernels.probe import find_layers
from stages.backends.reference import Reference
from stages.integer.interpreter import Interpreter, check_input
from stages.integer.program import Integers, Program
from stages.integer.unsigned import from_unsigned, to_unsigned, unsigned

log = logging.getLogger(__name__)


class OneDNNExecutable:
    """A program on oneDNN. Values are uint8 and channels-last from the first operator to the last.

    Threads work on batches of their own, each operator on one thread: nobody waits for others layer by layer.
    """

    name = "onednn"

    def __init__(
        self,
        program: Program,
        layers: Layers,
        *,
        batch_size: int,
        threads: int | None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.notes = (*notes, *_notes(layers))
        self._program = program
        self._unsigned = unsigned(program)
        self._layers = layers
        self._batch_size = batch_size
        self._threads = threads
        self._interpreter = self._interpret(layers)

    def run(self, q: Integers) -> Integers:
        """Levels in, levels out."""
        check_input(self._program, q)
        with _one_thread():
            result = self._interpreter.run(to_unsigned(q))
        return from_unsigned(result, self._program.values[self._program.output])

    def trace(self, q: Integers) -> dict[str, Integers]:
        """Every value by name."""
        check_input(self._program, q)
        with _one_thread():
            values = self._tracer.trace(to_unsigned(q))
        return {name: from_unsigned(value, self._program.values[name]) for name, value in values.items()}

    def profile(self, q: Integers) -> dict[str, float]:
        """Seconds by operator."""
        check_input(self._program, q)
        with _one_thread():
            return self._interpreter.profile(to_unsigned(q))

    @cached_property
    def _tracer(self) -> Interpreter:
        """A second set of kernels, which leave residuals in place."""
        return self._interpret(replace(self._layers, overwrite=False))

    def _interpret(self, layers: Layers) -> Interpreter:
        return Interpreter(
            self._unsigned,
            prepare=layers.prepare,
            batch_size=self._batch_size,
            threads=self._threads,
            initialize=_use_one_thread,
        )


@dataclass(frozen=True, kw_only=True)
class OneDNN:
    """Fast integer kernels; agrees with the reference but for rounding of near-ties.

    Args:
        threads: batches in work at a time; None for one a core.
        batch_size: most samples that go through the network together.
        fallback: run on the reference where the kernels are missing or not exact on this CPU, and say so;
            False refuses instead.
    """

    name: ClassVar[str] = "onednn"
    exact: ClassVar[frozenset[str]] = (
        frozenset()
    )  # float but for a few in a million: see `onednn_kernels.layers`
    tolerance: ClassVar[Tolerance] = ONE_LEVEL

    threads: int | None = None
    batch_size: int = 64
    fallback: bool = True

    def __post_init__(self) -> None:
        check_counts(threads=self.threads, batch_size=self.batch_size)

    def compile(self, program: Program, notes: tuple[str, ...] = ()) -> Executable:
        """Prepare kernels; `notes` are passed on.

        Raises `PipelineError` where there are none and `fallback` is off.
        """
        layers = find_layers()
        if isinstance(layers, Layers):
            return OneDNNExecutable(
                program, layers, batch_size=self.batch_size, threads=self.threads, notes=notes
            )
        if not self.fallback:
            raise PipelineError(
                f"backend onednn: {layers}. Remedy: backend=reference or backend.fallback=true"
            )
        note = f"backend onednn: {layers}; the reference backend runs instead"
        log.warning(note)
        return Reference(threads=self.threads).compile(program, notes=(*notes, note))


BACKEND = OneDNN


def _notes(layers: Layers) -> tuple[str, ...]:
    """What differs from a CPU with 8-bit dot products."""
    if layers == Layers():
        return ()
    return (
        "backend onednn: this CPU has no VNNI, so that weights beyond ±64 are multiplied in two parts: "
        "exact, at about twice the time",
    )


def _use_one_thread() -> None:
    torch.set_num_threads(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch's operators in the calling thread alone, for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
