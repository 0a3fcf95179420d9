"""Any of several labels, by a logit each: above 0 is yes.

``F1 = 2 tp / (2 tp + fp + fn)`` of a label; macro is the mean over labels. A label that is never there and
never found has none, and takes no part; neither does a label without positives in mean average precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.tasks.answering import Answer, Wording, sigmoid
from stages.tasks.base import Measure, Outputs, Targets
from stages.tasks.probabilities import binary_loss, sigmoid_divergence
from stages.tasks.ranking import average_precision
from stages.tasks.targets import described, of_output, range_of, remedy, yes_or_no

MACRO_F1 = Measure(key="macro_f1", title="macro F1")


@dataclass(frozen=True, kw_only=True)
class Multilabel:
    """Macro F1, samples with all labels right, mean average precision; trained by binary cross-entropy."""

    name: ClassVar[str] = "multilabel"
    measures: ClassVar[tuple[Measure, ...]] = (
        MACRO_F1,
        Measure(key="exact_match", title="all labels right"),
        Measure(key="mean_average_precision", title="mean average precision"),
    )
    batched: ClassVar[Measure] = MACRO_F1
    decision: ClassVar[str] = "labels"
    single: ClassVar[bool] = False
    smooths: ClassVar[bool] = True
    placed: ClassVar[bool] = False

    def outputs(self, num_classes: int) -> int:
        """One a label."""
        return num_classes

    def misfits(self, shape: tuple[int, ...], num_classes: int, labels: Targets) -> Iterator[str]:
        """Outputs are (N, labels), as are targets of 0 and 1."""
        if len(shape) != 1:
            yield (
                f"the network's output is {of_output(shape)}, and a logit a label, (N, labels), is taken. "
                "Remedy: flatten or pool it"
            )
        if labels.ndim != 2:
            yield (
                f"labels are {described(labels)}, and 0 or 1 for each label, (N, labels), is taken. Remedy: "
                f"{remedy(labels)}, or data with several labels a sample"
            )
        elif not yes_or_no(labels):
            yield f"labels are {range_of(labels)}, and 0 (no) or 1 (yes) is taken. Remedy: {remedy(labels)}"
        elif len(shape) == 1 and shape != labels.shape[1:]:
            yield (
                f"the network's output is {of_output(shape)}, and the data has {labels.shape[1]} labels. "
                f"Remedy: a network with {labels.shape[1]} outputs"
            )

    def decisions(self, outputs: Outputs) -> NDArray[np.int8]:
        """0 or 1, (N, labels)."""
        return (outputs > 0).astype(np.int8)

    def answers(self, outputs: Outputs, wording: Wording) -> list[Answer]:
        """The labels that are there, most probable first, and the first of all labels: ``{"labels", "top"}``.

        Each is ``{"label", "index", "score"}``, scores being each label's own probability.
        """
        found = []
        for row, shares in zip(outputs, sigmoid(outputs), strict=True):
            there = np.flatnonzero(row > 0)
            order = there[np.argsort(-shares[there], kind="stable")]
            labels = [wording.choice(int(index), float(shares[index])) for index in order]
            found.append({"labels": labels, "top": wording.best(shares)})
        return found

    def tied(self, outputs: Outputs) -> None:
        """Zero is no, by definition."""

    def figures(
        self, outputs: Outputs, labels: Targets, reference: Outputs | None = None
    ) -> dict[str, float]:
        """Means over labels, and the share of samples."""
        positive = labels > 0
        values = {"exact_match": float(((outputs > 0) == positive).all(axis=1).mean())}
        f1 = self.score(self.tally(torch.from_numpy(outputs), torch.from_numpy(positive)))
        precisions = [average_precision(s, p) for s, p in zip(outputs.T, positive.T, strict=True)]
        defined = [precision for precision in precisions if precision is not None]
        if np.isfinite(f1):
            values["macro_f1"] = f1
        if defined:
            values["mean_average_precision"] = float(np.mean(defined))
        return values

    def tally(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Labels found rightly, and found or there (twice where both); int64 (2, labels)."""
        found, there = outputs > 0, y > 0
        return torch.stack([(found & there).sum(0), found.sum(0) + there.sum(0)])

    def score(self, tally: Tensor) -> float:
        """Macro F1."""
        right, either = tally.cpu().double()
        known = either > 0
        return float((2 * right[known] / either[known]).mean()) if known.any() else float("nan")

    def loss(self, outputs: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean binary cross-entropy over samples and labels."""
        return binary_loss(outputs, y, label_smoothing)

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Kullback-Leibler of each label's probabilities, in nats, the mean over labels."""
        return sigmoid_divergence(outputs, teacher, temperature)
