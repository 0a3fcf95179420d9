"""The protocol of a competitor, and what it gets to work on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from stages.artifacts import FloatModel, QuantizedModel
from stages.data.base import Data
from stages.data.batches import batches
from stages.integer.program import Program
from stages.measuring.timing import Clock, Step


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Calibration batches, float32 (B, C, H, W), read anew each time they are gone through.

    Args:
        data: samples come from its training split.
        ids: indices into it.
        batch_size: B; the last batch holds what is left.
    """

    data: Data
    ids: tuple[int, ...]
    batch_size: int

    def __iter__(self) -> Iterator[Tensor]:
        for x, _ in batches(self.data.train(), self.batch_size, self.data, order=np.array(self.ids)):
            yield x


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network on one input.

    Args:
        module: the float network as its author wrote it, in evaluation mode.
        model: the same as captured.
        quantized: the same, calibrated.
        program: the same as integers.
        x: the input, float32 (N, C, H, W).
        calibration: what to calibrate on.
        threads: how many a competitor may use.
        seed: the run's.
        scratch: a folder for its files.
        expected: the float network's output on `x`, for the check of outputs; None leaves that out.
        isa: the instruction set that all are held to, as in ``backend.isa``; None for what the CPU has.
        clock: what times calls.
    """

    module: nn.Module
    model: FloatModel
    quantized: QuantizedModel
    program: Program
    x: Tensor
    calibration: Batches
    threads: int
    seed: int
    scratch: Path
    expected: NDArray[np.floating] | None = None
    isa: str | None = None
    clock: Clock = "wall"


@runtime_checkable
class Competitor(Protocol):
    """A way to do the work: a frozen dataclass that configuration lists under a name of its own.

    Five members more are optional. ``packages: tuple[str, ...]`` are modules without which it does not
    start, and ``extra: str`` what installs them (``bench`` if it does not say). ``peer: bool`` says that it
    is not ours, and so belongs to the summary (true if it does not say), ``held: bool`` that `holding` can
    hold it to an instruction set (false if it does not say), ``compared: bool`` that its outputs should be
    the float network's (true if it does not say).
    """

    @property
    def isolated(self) -> bool:
        """Whether it needs a process of its own, because it changes what others in its process get."""

    def prepare(self, case: Case) -> Step:
        """Everything that is done once. Raises whatever prevents it; the text becomes the reason given."""


def is_peer(competitor: Competitor) -> bool:
    """Whether it is somebody else's engine."""
    return bool(getattr(competitor, "peer", True))


def is_compared(competitor: Competitor) -> bool:
    """Whether its outputs should be the float network's."""
    return bool(getattr(competitor, "compared", True))


def is_held(competitor: Competitor) -> bool:
    """Whether it keeps to the instruction set that `holding` names."""
    return bool(getattr(competitor, "held", False))


def check_packages(competitor: Competitor) -> None:
    """Raise ImportError with the remedy where a package of its is not installed."""
    for package in getattr(competitor, "packages", ()):
        if not _installed(package):
            extra = getattr(competitor, "extra", "bench")
            raise ImportError(f"{package} is not installed; pip install '.[{extra}]'")


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except (ModuleNotFoundError, ValueError):  # the package that it is in is missing, or blocked
        return False
