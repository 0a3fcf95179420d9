"""Running a program in numpy: the reference that says what every backend must compute."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pipeline.environment import threads_in_use
from stages.integer.kernel import Prepare, prepare_kernel
from stages.integer.one_thread import one_blas_thread
from stages.integer.program import Integers, Program
from stages.integer.validate import validate


class Interpreter:
    """A program with its kernels prepared.

    Args:
        program: validated here.
        prepare: what makes an operator's kernel; backends give their own.
        batch_size: most samples that go through the network together; larger inputs are split.
        threads: batches in work at a time; None for one a core.
        initialize: called once in each thread but the caller's, before it works.

    Raises:
        ValueError: the program is not valid, or one of its sums can leave int32; names the operator.
    """

    def __init__(
        self,
        program: Program,
        *,
        prepare: Prepare = prepare_kernel,
        batch_size: int = 64,
        threads: int | None = None,
        initialize: Callable[[], None] | None = None,
    ) -> None:
        validate(program)
        self.program = program
        self._batch_size = batch_size
        self._threads = threads or threads_in_use()
        self._initialize = initialize
        self._kernels = [prepare(op, program) for op in program.ops]
        self._dead = last_read(program)

    def run(self, q: Integers) -> Integers:
        """Levels of the input value, (N, *shape), to levels of the output value.

        Values are dropped after their last reader. Raises ValueError for another shape or dtype.
        """
        check_input(self.program, q)
        result = np.empty((len(q), *self.program.values[self.program.output].shape), self._dtype)

        def work(batch: slice) -> None:
            result[batch] = self._run_batch(q[batch], keep=False)[self.program.output]

        batches = list(self._batches(len(q)))
        with one_blas_thread():
            if self._threads == 1 or len(batches) == 1:
                for batch in batches:
                    work(batch)
            else:
                with ThreadPoolExecutor(self._threads, initializer=self._initialize) as pool:
                    list(pool.map(work, batches))
        return result

    def trace(self, q: Integers) -> dict[str, Integers]:
        """Every value by name, the input included, in order of execution."""
        check_input(self.program, q)
        with one_blas_thread():
            parts = [self._run_batch(q[batch], keep=True) for batch in self._batches(len(q))]
        names = [self.program.input, *(op.output for op in self.program.ops)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def profile(self, q: Integers) -> dict[str, float]:
        """Seconds spent in each operator, by its output, on all of `q`; one batch after the other."""
        check_input(self.program, q)
        seconds = {op.output: 0.0 for op in self.program.ops}
        with one_blas_thread():
            for batch in self._batches(len(q)):
                self._run_batch(q[batch], keep=False, seconds=seconds)
        return seconds

    def _run_batch(
        self, q: Integers, keep: bool, seconds: dict[str, float] | None = None
    ) -> dict[str, Integers]:
        values = {self.program.input: q}
        for op, kernel, dead in zip(self.program.ops, self._kernels, self._dead, strict=True):
            start = time.perf_counter()
            values[op.output] = kernel(*(values[name] for name in op.inputs))
            if seconds is not None:
                seconds[op.output] += time.perf_counter() - start
            if not keep:
                for name in dead:
                    del values[name]
        return values

    def _batches(self, samples: int) -> Iterator[slice]:
        """All threads get some; there is at least one, so that no samples give an empty result."""
        size = max(1, min(self._batch_size, -(-samples // self._threads)))
        return (slice(i, min(i + size, samples)) for i in range(0, max(samples, 1), size))

    @property
    def _dtype(self) -> np.dtype[np.integer]:
        return self.program.values[self.program.output].dtype


def last_read(program: Program) -> list[list[str]]:
    """For each operator, the values that none after it reads; never the program's output."""
    last_reader = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
    last_reader.pop(program.output, None)
    dead: list[list[str]] = [[] for _ in program.ops]
    for name, i in last_reader.items():
        dead[i].append(name)
    return dead


def check_input(program: Program, q: Integers) -> None:
    """Raise ValueError unless `q` has the dtype, the shape, (N, *shape), and the tokens of the input."""
    value = program.values[program.input]
    if q.shape[1:] != value.shape or q.dtype != value.dtype:
        expected = ", ".join(["N", *map(str, value.shape)])
        raise ValueError(
            f"input '{value.name}': got {q.dtype} {q.shape}, must be {value.dtype} ({expected}); "
            "quantize_input turns floats into such levels"
        )
    if value.counts and q.size and not value.quant_min <= q.min() <= q.max() <= value.quant_max:
        raise ValueError(
            f"input '{value.name}': tokens {q.min()}..{q.max()}: must be within {value.quant_min}.."
            f"{value.quant_max}, the rows that there are"
        )


def quantize_input(program: Program, x: NDArray[np.float32]) -> Integers:
    """Float (N, *shape) to levels of the input: ``clamp(rint(x / scale) + zero_point)`` in float32."""
    value = program.values[program.input]
    if x.shape[1:] != value.shape:
        expected = ", ".join(["N", *map(str, value.shape)])
        raise ValueError(f"input '{value.name}': got shape {x.shape}, must be ({expected})")
    q = np.divide(x, np.float32(value.scale), dtype=np.float32)
    np.rint(q, out=q)
    q += np.float32(value.zero_point)
    return np.clip(q, value.quant_min, value.quant_max, out=q).astype(value.dtype)


def dequantize_output(program: Program, q: Integers) -> NDArray[np.float32]:
    """Levels of the output to the reals they stand for: ``scale · (q − zero_point)``, float32."""
    value = program.values[program.output]
    real = q.astype(np.float32)
    real -= np.float32(value.zero_point)
    real *= np.float32(value.scale)
    return real
