"""One class of several: the largest output wins.

Where the largest is one of several classes, the lowest of them is the prediction, in every form. With ties,
a sample counts for top-5 where fewer than five classes come before its own, by output and then by number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.tasks.answering import Answer, Wording, softmax
from stages.tasks.answers import right_of_all, share
from stages.tasks.base import Measure, Outputs, Targets
from stages.tasks.probabilities import softmax_divergence
from stages.tasks.targets import described, integral, of_output, range_of, remedy

LEAST_FOR_TOP5 = 10
"""With fewer classes than this, five guesses say little."""

TOP1 = Measure(key="top1", title="top-1")


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Top-1, and top-5 where there are ten classes or more; trained by cross-entropy."""

    name: ClassVar[str] = "classification"
    measures: ClassVar[tuple[Measure, ...]] = (TOP1, Measure(key="top5", title="top-5"))
    batched: ClassVar[Measure] = TOP1
    decision: ClassVar[str] = "top-1"
    single: ClassVar[bool] = True
    smooths: ClassVar[bool] = True
    placed: ClassVar[bool] = False

    def outputs(self, num_classes: int) -> int:
        """One a class."""
        return num_classes

    def misfits(self, shape: tuple[int, ...], num_classes: int, labels: Targets) -> Iterator[str]:
        """Outputs are (N, classes), at least two and as many as the data has; labels are classes."""
        given = f"the network's output is {of_output(shape)}"
        if len(shape) == 3:
            yield f"{given}, one map a class. Remedy: task=segmentation, or pool it to (N, {shape[0]})"
        elif len(shape) > 1:
            yield f"{given}, and the largest of (N, {num_classes}) is taken. Remedy: flatten or pool it"
        elif shape in ((), (1,)):
            yield (
                f"{given}, and the largest of one output is always class 0. Remedy: task=binary, or a "
                f"network with an output for each of the {num_classes} classes of the data"
            )
        elif shape != (num_classes,):
            yield (
                f"{given}, and the data has {num_classes} classes. Remedy: a network with {num_classes} "
                f"outputs, or data of {shape[0]} classes: data.classes=… names the class of each output, "
                "where the data has fewer"
            )
        if not integral(labels) or labels.ndim != 1:
            yield (
                f"labels are {described(labels)}, and classes are integers (N,). Remedy: {remedy(labels)}, "
                "or data with classes"
            )
        elif labels.size and not (labels.min() >= 0 and labels.max() < num_classes):
            yield (
                f"labels are {range_of(labels)}, and the data has {num_classes} classes, 0..{num_classes - 1}"
                ". Remedy: correct the data's labels, or its num_classes"
            )

    def decisions(self, outputs: Outputs) -> NDArray[np.int64]:
        """Classes, (N,)."""
        classes: NDArray[np.int64] = outputs.reshape(len(outputs), -1).argmax(axis=1).astype(np.int64)
        return classes

    def answers(self, outputs: Outputs, wording: Wording) -> list[Answer]:
        """The class, and under ``top`` the first ones: ``{"label", "index", "score", "top": [{…}, …]}``.

        Scores are softmax probabilities.
        """
        rows = outputs.reshape(len(outputs), -1)
        shares = rows.astype(np.float64) if wording.shares else softmax(rows)
        best = [wording.best(row) for row in shares]
        return [{**top[0], "top": top} for top in best]

    def tied(self, outputs: Outputs) -> NDArray[np.bool_]:
        """The samples whose largest output is that of several classes."""
        largest: NDArray[np.bool_] = (outputs == outputs.max(axis=1, keepdims=True)).sum(axis=1) > 1
        return largest

    def figures(
        self, outputs: Outputs, labels: Targets, reference: Outputs | None = None
    ) -> dict[str, float]:
        """Shares of samples."""
        values = {"top1": float((self.decisions(outputs) == labels).mean())}
        if outputs.shape[1] >= LEAST_FOR_TOP5:
            own = np.take_along_axis(outputs, labels[:, None], axis=1)
            earlier = np.arange(outputs.shape[1]) < labels[:, None]
            before = (outputs > own) | ((outputs == own) & earlier)
            values["top5"] = float((before.sum(axis=1) < 5).mean())
        return values

    def tally(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Right answers, and samples; int64 (2,)."""
        right = outputs.argmax(1) == y
        return right_of_all(right)

    def score(self, tally: Tensor) -> float:
        """Their share."""
        return share(tally)

    def loss(self, outputs: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy."""
        return F.cross_entropy(outputs, y, label_smoothing=label_smoothing)

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Kullback-Leibler of the classes' probabilities, in nats."""
        return softmax_divergence(outputs, teacher, temperature)
