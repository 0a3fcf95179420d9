"""The protocol of a backend, which turns an integer program into something that runs."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass, replace
from importlib import import_module
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

import stages.backends
from pipeline.errors import PipelineError, alternatives
from stages.integer.interpreter import dequantize_output, quantize_input
from stages.integer.program import Integers, Program


class Executable(Protocol):
    """A program ready to run on a backend."""

    @property
    def name(self) -> str:
        """What runs it: the backend's name, or ``reference`` where the backend fell back to that."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of its results should know: why it fell back, what it cannot round exactly."""

    def run(self, q: Integers) -> Integers:
        """Levels of the program's input value, (N, *shape), to levels of its output value."""

    def trace(self, q: Integers) -> dict[str, Integers]:
        """Every value by name, the input included, in order of execution."""


@runtime_checkable
class Predicts(Protocol):
    """An executable with a way of its own from reals to reals, faster than `predict`'s and equal to it."""

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Float input (N, *shape) to float output (N, *shape)."""


@runtime_checkable
class CompiledKernels(Protocol):
    """An executable whose kernels are compiled for one instruction set of several."""

    @property
    def instruction_set(self) -> str:
        """As configuration names it."""


@runtime_checkable
class NeedsMachine(Protocol):
    """A backend that does not run on every machine."""

    def check_machine(self) -> None:
        """Raise `PipelineError` where this machine lacks what the backend needs."""


def instruction_set_of(executable: Executable) -> str:
    """What an executable's kernels are compiled for; empty where it does not say."""
    return executable.instruction_set if isinstance(executable, CompiledKernels) else ""


def predict(executable: Executable, program: Program, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quantize the input, run on integers, dequantize the output.

    Raises:
        ValueError: another shape; or NaN among the numbers, for which no level stands, naming its sample.
    """
    if np.isnan(x).any():
        sample = int(np.isnan(x).reshape(len(x), -1).any(axis=1).argmax())
        raise ValueError(
            f"input: sample {sample} of {len(x)} holds NaN, for which no level stands. Remedy: look where it "
            "comes from, and replace it"
        )
    if isinstance(executable, Predicts):
        return executable.predict(x)
    return dequantize_output(program, executable.run(quantize_input(program, x)))


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a run's integers may lie from what the program's table says.

    Args:
        off_by: most levels that an operator may differ, given the same inputs; 0: exact. Differences add up
            along the network, so that above 0 it limits no layer.
        min_agreement: least share of samples that keep their top-1 through all operators; 0 promises none.
        reason: why, for the report; empty where it is exact.
    """

    off_by: int = 0
    min_agreement: float = 1.0
    reason: str = ""

    @property
    def exact(self) -> bool:
        """Whether every level has to be the table's."""
        return self.off_by == 0


EXACT = Tolerance()
ONE_LEVEL = Tolerance(off_by=1, min_agreement=0.9)
"""The tolerance of a backend that computes an operator's exact sum, and rounds it in another way. Measured
with values of 8 bits on four networks: 0.997 to 1 of the samples agree in trained ones, down to 0.967 in
hardly trained ones with weights of 4 bits."""

FULL = 254
"""The span of 8 bits, narrow: one level is then little enough that it seldom decides."""


@runtime_checkable
class Backend(Protocol):
    """A frozen dataclass that configuration chooses. Its module names the class ``BACKEND``."""

    name: ClassVar[str]
    """Its module's name in `stages.backends`, and its option in the ``backend`` group."""

    exact: ClassVar[frozenset[str]]
    """The requantizations (`Program.requantize`) that it computes as the program's table says."""

    @property
    def tolerance(self) -> Tolerance:
        """What it declares for all other requantizations; see `tolerance_of`."""

    def compile(self, program: Program) -> Executable:
        """Prepare kernels. Raises ValueError for a program that is not valid."""


def tolerance_of(backend: Backend, program: Program) -> Tolerance:
    """What `program` on `backend` has to keep: `EXACT` where the backend computes its mode exactly.

    Else what the backend declares; with values of fewer than 8 bits, of which a level is a large part, no
    agreement of the network's results is promised.
    """
    if program.requantize in backend.exact:
        return EXACT
    tolerance, reason = (
        backend.tolerance,
        f"backend {backend.name} rounds {program.requantize} in its own way",
    )
    if min(value.quant_max - value.quant_min for value in program.values.values()) < FULL:
        tolerance, reason = replace(tolerance, min_agreement=0.0), f"{reason}, with fewer than 8 bits"
    return replace(tolerance, reason=reason)


def what_ran(backend: Backend, executable: Executable) -> Backend:
    """The backend whose kernels `executable` has: `backend`, or the one that it fell back to."""
    return backend if executable.name == backend.name else load_backend(executable.name)


def check_counts(*, threads: int | None, batch_size: int) -> None:
    """Raise ValueError for threads (None: one a core) or a batch size below 1."""
    if threads is not None and threads < 1:
        raise ValueError(f"threads={threads}: must be at least 1, or null for one a core")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")


def load_backend(name: str) -> Backend:
    """The backend of that name with its default settings. Raises `PipelineError` listing the names."""
    names = {module.name for module in pkgutil.iter_modules(stages.backends.__path__) if not module.ispkg}
    names.discard("base")
    if name not in names:
        raise PipelineError(f"unknown backend '{name}'; {alternatives(name, names)}")
    backend: Backend = import_module(f"stages.backends.{name}").BACKEND()
    return backend
