"""Our own kernels in C++ for many CPUs: the reference's integers, in every rounding mode."""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pipeline.environment import threads_in_use
from pipeline.errors import PipelineError
from stages.backends.base import EXACT, Executable, Tolerance, check_counts
from stages.backends.native_kernels.instruction_sets import check_name
from stages.backends.native_kernels.library import Library, check_isa, find_library
from stages.backends.native_kernels.planner import Plan
from stages.backends.native_kernels.segments import ByReference, Part, parts, work
from stages.backends.native_kernels.structures import ExternalArray
from stages.backends.reference import Reference
from stages.integer.bounds import check_accumulators
from stages.integer.interpreter import check_input, dequantize_output, quantize_input
from stages.integer.program import Integers, Op, Program

log = logging.getLogger(__name__)


_LIVING: weakref.WeakSet[NativeExecutable] = weakref.WeakSet()


def _unlock() -> None:
    """In the child of a fork: a lock held by another thread stays held, since that thread is not here."""
    for executable in _LIVING:
        executable._lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


class _Prepared:
    """A program's parts, and memory for their steps: an arena a thread, from a multiple of 64 bytes on."""

    def __init__(self, program: Program, library: Library, threads: int, *, keep: bool) -> None:
        self.parts: list[Part] = parts(
            program, keep=keep, dot_offset=library.dot_offset, panels=library.panels
        )
        size = 64 + max((part.arena_bytes for part in self.parts if isinstance(part, Plan)), default=0)
        self._memory = [np.zeros(size, np.uint8) for _ in range(threads)]
        starts = (memory.ctypes.data for memory in self._memory)
        self.arenas = (ctypes.c_void_p * threads)(*(start + -start % 64 for start in starts))


class NativeExecutable:
    """A program as steps of the engine. Operators that it does not know run in between, by the reference.

    Each sample goes through all steps before the next, so that activations stay in cache. Threads take
    samples of their own, and share the steps of one where there are fewer samples than threads.
    """

    name = "native"

    def __init__(self, program: Program, library: Library, *, batch_size: int, threads: int) -> None:
        check_accumulators(program)
        self._program = program
        self._library = library
        self.instruction_set = library.isa
        self._batch_size = batch_size
        self._threads = threads
        self._runner = _Prepared(program, library, threads, keep=False)
        self.notes = _notes(
            program, [part.op for part in self._runner.parts if isinstance(part, ByReference)]
        )
        self._lock = threading.Lock()  # calls share the arenas and the team
        _LIVING.add(self)
        self._team = None
        if threads > 1:
            self._team = library.functions.team(threads)
            weakref.finalize(self, library.functions.disband, self._team)

    def run(self, q: Integers) -> Integers:
        """Levels in, levels out."""
        check_input(self._program, q)
        batches = (self._values(self._runner, batch) for batch in self._batches(q))
        results = [values[self._program.output] for values in batches]
        return results[0] if len(results) == 1 else np.concatenate(results)

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reals in, reals out; quantizes as `quantize_input` does."""
        value = self._program.values[self._program.input]
        if x.shape[1:] != value.shape or value.wide:  # the former says what is wrong
            return dequantize_output(self._program, self.run(quantize_input(self._program, x)))
        x = np.ascontiguousarray(x, dtype=np.float32)
        q = np.empty(x.shape, value.dtype)
        self._library.functions.quantize(
            x.__array_interface__["data"][0],
            q.__array_interface__["data"][0],
            x.size,
            value.scale,
            value.zero_point,
            value.quant_min,
            value.quant_max,
        )
        levels = np.ascontiguousarray(self.run(q))  # what the reference gives may lie otherwise
        out = self._program.values[self._program.output]
        if out.wide:
            return dequantize_output(self._program, levels)
        real = np.empty(levels.shape, np.float32)
        self._library.functions.dequantize(
            levels.__array_interface__["data"][0],
            real.__array_interface__["data"][0],
            real.size,
            out.scale,
            out.zero_point,
            128 if out.dtype == np.int8 else 0,
        )
        return real

    def trace(self, q: Integers) -> dict[str, Integers]:
        """Every value by name."""
        check_input(self._program, q)
        batches = [self._values(self._tracer, batch) for batch in self._batches(q)]
        names = [self._program.input, *(op.output for op in self._program.ops)]
        return {name: np.concatenate([values[name] for values in batches]) for name in names}

    def profile(self, q: Integers) -> dict[str, float]:
        """Seconds by operator of the engine, on one thread."""
        check_input(self._program, q)
        seconds = {op.output: 0.0 for op in self._program.ops}
        for batch in self._batches(q):
            self._values(self._runner, batch, seconds)
        return seconds

    @cached_property
    def _tracer(self) -> _Prepared:
        """Steps that hand out every value."""
        return _Prepared(self._program, self._library, self._threads, keep=True)

    def _batches(self, q: Integers) -> Iterator[Integers]:
        """What the engine alone runs needs no splitting: its memory does not grow with the samples."""
        alone = len(self._runner.parts) == 1 and isinstance(self._runner.parts[0], Plan)
        size = max(1, len(q) if alone else self._batch_size)
        return (q[start : start + size] for start in range(0, max(1, len(q)), size))

    def _values(
        self, prepared: _Prepared, q: Integers, seconds: dict[str, float] | None = None
    ) -> dict[str, Integers]:
        values = {self._program.input: q}
        for part in prepared.parts:
            if isinstance(part, ByReference):
                values[part.op.output] = part.kernel(*(values[name] for name in part.op.inputs))
            else:
                values |= self._run(part, prepared.arenas, values, seconds)
            for name in part.dead:
                del values[name]
        return values

    def _run(
        self,
        plan: Plan,
        arenas: ctypes.Array[ctypes.c_void_p],
        values: Mapping[str, Integers],
        seconds: dict[str, float] | None,
    ) -> dict[str, Integers]:
        inputs = [np.ascontiguousarray(values[name]) for name in plan.inputs]
        samples = len(inputs[0])
        results = {}
        for name in plan.outputs:
            value = self._program.values[name]
            results[name] = np.empty((samples, *value.shape), value.dtype)
        arrays = (*inputs, *results.values())
        external = (ExternalArray * len(arrays))()
        for each, array in zip(external, arrays, strict=True):
            each.data, each.bytes = array.__array_interface__["data"][0], array.nbytes // max(samples, 1)
        taken = None if seconds is None else (ctypes.c_double * len(plan.steps))()
        with self._lock:
            self._library.functions.run(
                plan.steps,
                plan.images,
                len(plan.steps),
                arenas,
                self._team if seconds is None else None,
                external,
                samples,
                taken,
            )
        if seconds is not None and taken is not None:
            for name, duration in zip(plan.names, taken, strict=True):
                if name in seconds:
                    seconds[name] += duration
        return results


@dataclass(frozen=True, kw_only=True)
class Native:
    """The fastest kernels, and the reference's integers; compiled by the system's C++ compiler on first use.

    Args:
        threads: samples in work at a time; None for one a core.
        batch_size: most samples that go together through operators which only the reference has.
        fallback: run on oneDNN where there is no compiler, and say so; False refuses instead.
        isa: the instruction set to compile kernels for, of those that this CPU has: avx512vbmi,
            avx512vnni, avxvnni, avx2, neon_i8mm, neon_dotprod, neon, scalar; None for the fastest. All give
            the same integers.
    """

    name: ClassVar[str] = "native"
    exact: ClassVar[frozenset[str]] = frozenset({"fixed_point", "fixed_point_single", "float", "tflm"})
    tolerance: ClassVar[Tolerance] = EXACT

    threads: int | None = None
    batch_size: int = 64
    fallback: bool = True
    isa: str | None = None

    def __post_init__(self) -> None:
        check_name(self.isa)
        check_counts(threads=self.threads, batch_size=self.batch_size)

    def check_machine(self) -> None:
        """Raise `PipelineError` where this CPU lacks `isa`."""
        check_isa(self.isa)

    def compile(self, program: Program) -> Executable:
        """Prepare steps.

        Raises `PipelineError` where this CPU lacks `isa`, or the engine cannot run and `fallback` is off.
        """
        library = find_library(self.isa)
        if not isinstance(library, str):
            threads = self.threads or threads_in_use()
            return NativeExecutable(program, library, batch_size=self.batch_size, threads=threads)
        if not self.fallback:
            raise PipelineError(
                f"backend native: {library}. Remedy: backend=onednn, backend=reference or "
                "backend.fallback=true"
            )
        try:  # torch's kernels; where only numpy is installed, numpy's
            from stages.backends.onednn import OneDNN
        except ImportError:
            note = f"backend native: {library}; reference runs instead"
            log.warning(note)
            return Reference(threads=self.threads, batch_size=self.batch_size).compile(program, (note,))
        note = f"backend native: {library}; onednn runs instead"
        log.warning(note)
        return OneDNN(threads=self.threads, batch_size=self.batch_size).compile(program, notes=(note,))


BACKEND = Native


def _notes(program: Program, left: Sequence[Op]) -> tuple[str, ...]:
    """What is left to the reference, and how much of the program that is."""
    if not left:
        return ()
    kinds = ", ".join(sorted({op.op for op in left}))
    share = sum(work(op, program) for op in left) / max(1, sum(work(op, program) for op in program.ops))
    count = f"{len(left)} of {len(program.ops)} operators, {share:.1%} of operations"
    return (f"backend native: {kinds} by the reference's kernels: {count}",)
