"""The protocol of a competitor, and what it gets to work on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from torch import Tensor, nn

from stages.artifacts import FloatModel, QuantizedModel
from stages.data.base import Data
from stages.data.batches import batches
from stages.integer.program import Program
from stages.measuring.timing import Step


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


@runtime_checkable
class Competitor(Protocol):
    """A way to do the work: a frozen dataclass that configuration lists under a name of its own."""

    @property
    def isolated(self) -> bool:
        """Whether it needs a process of its own, because it changes what others in its process get."""

    def prepare(self, case: Case) -> Step:
        """Everything that is done once. Raises whatever prevents it; the text becomes the reason given."""
