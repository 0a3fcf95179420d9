"""Yes or no, by one logit: above 0 is yes. A logit of exactly 0 is no, in every form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from stages.tasks.answering import Answer, Wording, sigmoid
from stages.tasks.answers import right_of_all, share
from stages.tasks.base import Measure, Outputs, Targets
from stages.tasks.probabilities import binary_loss, sigmoid_divergence
from stages.tasks.ranking import auroc
from stages.tasks.targets import described, of_output, range_of, remedy, yes_or_no

ACCURACY = Measure(key="accuracy", title="accuracy")


@dataclass(frozen=True, kw_only=True)
class Binary:
    """Accuracy, and area under the ROC curve; trained by binary cross-entropy."""

    name: ClassVar[str] = "binary"
    measures: ClassVar[tuple[Measure, ...]] = (ACCURACY, Measure(key="auroc", title="AUROC"))
    batched: ClassVar[Measure] = ACCURACY
    decision: ClassVar[str] = "decision"
    single: ClassVar[bool] = True
    smooths: ClassVar[bool] = True
    placed: ClassVar[bool] = False

    def outputs(self, num_classes: int) -> int:
        """One."""
        return 1

    def misfits(self, shape: tuple[int, ...], num_classes: int, labels: Targets) -> Iterator[str]:
        """One output a sample, and labels 0 or 1."""
        if num_classes > 2:
            yield (
                f"one logit tells two classes apart, and the data has {num_classes}. Remedy: "
                f"task=classification and a network of {num_classes} outputs, or data of two classes"
            )
        if shape not in ((), (1,)):
            yield (
                f"the network's output is {of_output(shape)}, and one logit, (N, 1), is taken. Remedy: "
                f"{'task=classification' if len(shape) == 1 else 'task=segmentation'}, or a network of one "
                "output"
            )
        if labels.shape not in (labels.shape[:1], (*labels.shape[:1], 1)):
            yield f"labels are {described(labels)}, and one a sample is taken. Remedy: {remedy(labels)}"
        elif not yes_or_no(labels):
            yield (
                f"labels are {range_of(labels)}, and 0 (no) or 1 (yes) is taken. Remedy: {remedy(labels)}, "
                "or labels of 0 and 1"
            )

    def decisions(self, outputs: Outputs) -> NDArray[np.int64]:
        """0 or 1, (N,)."""
        return (outputs.reshape(-1) > 0).astype(np.int64)

    def answers(self, outputs: Outputs, wording: Wording) -> list[Answer]:
        """Index 1 for yes, 0 for no, and the probability of what is said: ``{"label", "index", "score"}``."""
        yes = sigmoid(outputs.reshape(-1))
        decided = self.decisions(outputs).reshape(-1).astype(int)
        return [
            wording.choice(int(one), float(share if one else 1.0 - share))
            for one, share in zip(decided, yes, strict=True)
        ]

    def tied(self, outputs: Outputs) -> None:
        """Zero is no, by definition."""

    def figures(
        self, outputs: Outputs, labels: Targets, reference: Outputs | None = None
    ) -> dict[str, float]:
        """The area is left out where all labels are the same."""
        positive = labels.reshape(-1) > 0
        values = {"accuracy": float((self.decisions(outputs) == positive).mean())}
        if (area := auroc(outputs.reshape(-1), positive)) is not None:
            values["auroc"] = area
        return values

    def tally(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Right answers, and samples; int64 (2,)."""
        right = (outputs.reshape(-1) > 0) == (y.reshape(-1) > 0)
        return right_of_all(right)

    def score(self, tally: Tensor) -> float:
        """Their share."""
        return share(tally)

    def loss(self, outputs: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean binary cross-entropy."""
        return binary_loss(outputs, y, label_smoothing)

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Kullback-Leibler of the two probabilities, in nats."""
        return sigmoid_divergence(outputs, teacher, temperature)
