"""Numbers: outputs are compared with targets y as they are.

``RMSE = √mean (o − y)²``, ``MAE = mean |o − y|`` over all elements; ``R² = 1 − Σ (o − y)² / Σ (y − ȳ)²`` of
each output, the mean over those whose targets are not all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.tasks.answering import Answer, Wording, values
from stages.tasks.base import Measure, Outputs, Targets
from stages.tasks.targets import described, of_output

RMSE = Measure(key="rmse", title="RMSE", better="lower", share=False)


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Root mean square error, mean absolute error, R²; trained by the mean square error."""

    name: ClassVar[str] = "regression"
    measures: ClassVar[tuple[Measure, ...]] = (
        RMSE,
        Measure(key="mae", title="MAE", better="lower", share=False),
        Measure(key="r2", title="R²", share=False),
    )
    batched: ClassVar[Measure] = RMSE
    decision: ClassVar[str] = "output"
    single: ClassVar[bool] = False
    smooths: ClassVar[bool] = False
    placed: ClassVar[bool] = False

    def outputs(self, num_classes: int) -> int:
        """One a number."""
        return num_classes

    def misfits(self, shape: tuple[int, ...], num_classes: int, labels: Targets) -> Iterator[str]:
        """As many finite numbers a sample in the outputs as in the targets."""
        numbers = math.prod(labels.shape[1:])
        if math.prod(shape) != numbers:
            yield (
                f"the network's output is {of_output(shape)}, {math.prod(shape)} a sample, and labels are "
                f"{described(labels)}, {numbers} a sample. Remedy: a network with as many outputs as the "
                "data has numbers, or task=classification for classes"
            )
        if not np.isfinite(labels).all():
            yield "labels are not all finite. Remedy: leave those samples out of the data"

    def decisions(self, outputs: Outputs) -> Outputs:
        """The outputs themselves, (N, numbers)."""
        return outputs.reshape(len(outputs), -1)

    def answers(self, outputs: Outputs, wording: Wording) -> list[Answer]:
        """The numbers: ``{"values": [...]}``."""
        return values(outputs.reshape(len(outputs), -1))

    def tied(self, outputs: Outputs) -> None:
        """Nothing is chosen."""

    def figures(
        self, outputs: Outputs, labels: Targets, reference: Outputs | None = None
    ) -> dict[str, float]:
        """In float64."""
        y = labels.reshape(len(labels), -1).astype(np.float64)
        error = outputs.reshape(y.shape) - y
        values = {"rmse": math.sqrt(np.square(error).mean()), "mae": float(np.abs(error).mean())}
        varies = np.ptp(y, axis=0) > 0.0
        if varies.any():
            spread = np.square(y - y.mean(axis=0)).sum(axis=0)[varies]
            values["r2"] = float((1.0 - np.square(error).sum(axis=0)[varies] / spread).mean())
        return values

    def tally(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Summed squares of errors, and how many; (2,)."""
        error = outputs.reshape(len(y), -1) - y.reshape(len(y), -1).to(outputs.dtype)
        return torch.stack([error.square().sum(), torch.ones_like(error).sum()])

    def score(self, tally: Tensor) -> float:
        """Root of the mean square."""
        squares, count = tally.tolist()
        return math.sqrt(squares / count) if count else float("nan")

    def loss(self, outputs: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean square error over samples and numbers."""
        return F.mse_loss(outputs.reshape(len(y), -1), y.reshape(len(y), -1).to(outputs.dtype))

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Mean square difference."""
        return F.mse_loss(outputs, teacher)
