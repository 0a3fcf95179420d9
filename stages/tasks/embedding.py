"""A vector a sample, whose direction says what it is like.

The cosine is that to the float network's vector; two vectors of nothing but zeros are equal, one is not.
Recall@1 takes each sample whose class has others, and asks whether the nearest of all other samples, by
cosine, is of its class; of equally near ones the first counts. It needs classes, at least two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.tasks.answering import Answer, Wording, exact
from stages.tasks.answers import share
from stages.tasks.base import Measure, Outputs, Targets
from stages.tasks.targets import described, integral, of_output

TEMPERATURE = 0.1
"""Cosines are divided by it in the training loss, as in the paper."""

BLOCK = 1024
"""Samples that are compared with all others at once."""

RECALL = Measure(key="recall_at_1", title="recall@1")


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """Cosine to float, recall@1 where labels are classes; trained by supervised contrast (Khosla 2020)."""

    name: ClassVar[str] = "embedding"
    measures: ClassVar[tuple[Measure, ...]] = (
        Measure(key="cosine", title="cosine to float", share=False),
        RECALL,
    )
    batched: ClassVar[Measure] = RECALL
    decision: ClassVar[str] = "output"
    single: ClassVar[bool] = False
    smooths: ClassVar[bool] = False
    placed: ClassVar[bool] = False

    def outputs(self, num_classes: int) -> int:
        """A network of its own width may ignore it."""
        return num_classes

    def misfits(self, shape: tuple[int, ...], num_classes: int, labels: Targets) -> Iterator[str]:
        """Outputs are (N, width); labels, where they are classes, serve recall."""
        if len(shape) != 1 or shape[0] < 2:
            yield (
                f"the network's output is {of_output(shape)}, and a vector a sample, (N, width) of at least "
                "2, is taken. Remedy: pool it to one vector, or task=regression for single numbers"
            )

    def decisions(self, outputs: Outputs) -> Outputs:
        """The outputs themselves."""
        return outputs

    def unlearnable(self, labels: Targets) -> str | None:
        """Labels that are no classes have nothing to contrast."""
        if labels.ndim == 1 and integral(labels):
            return None
        return (
            f"training needs classes, integers (N,), and labels are {described(labels)}. Remedy: "
            "model.weights=PATH with training=post_training, or "
            "training.finetune.distillation.weight=1.0, which learns from the float network alone"
        )

    def answers(self, outputs: Outputs, wording: Wording) -> list[Answer]:
        """The vector: ``{"vector": [...]}``."""
        return [{"vector": exact(row)} for row in outputs.reshape(len(outputs), -1)]

    def tied(self, outputs: Outputs) -> None:
        """Nothing is chosen."""

    def figures(
        self, outputs: Outputs, labels: Targets, reference: Outputs | None = None
    ) -> dict[str, float]:
        """Means over samples."""
        values = {}
        if reference is not None:
            values["cosine"] = float(_cosines(outputs, reference).mean())
        if _classes(labels):
            right, asked = _retrieved(torch.from_numpy(outputs).double(), torch.from_numpy(labels))
            if asked:
                values["recall_at_1"] = right / asked
        return values

    def tally(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Right answers among the batch's own samples, and samples asked about; (2,)."""
        counts = _retrieved(outputs, y) if y.ndim == 1 and not y.is_floating_point() else (0, 0)
        return torch.tensor(counts)

    def score(self, tally: Tensor) -> float:
        """Recall@1 within batches."""
        return share(tally)

    def loss(self, outputs: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """The ``−mean log softmax(cos / 0.1)`` of the others of a sample's class among all others.

        Labels are classes (`unlearnable`).
        """
        unit = F.normalize(outputs, dim=1)
        itself = torch.eye(len(y), dtype=torch.bool, device=y.device)
        log_p = F.log_softmax((unit @ unit.T / TEMPERATURE).masked_fill(itself, -torch.inf), dim=1)
        alike = (y[:, None] == y) & ~itself
        shares = log_p.masked_fill(~alike, 0.0).sum(1) / alike.sum(1).clamp(min=1)
        return -shares.sum() / alike.any(1).sum().clamp(min=1)

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """``1 − cosine``, the mean over samples."""
        return (1.0 - F.cosine_similarity(outputs, teacher, dim=1)).mean().clamp(min=0.0)


def _cosines(a: Outputs, b: Outputs) -> NDArray[np.float64]:
    """(N,), in float64."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    equal = (x == y).all(axis=1)
    cosines: NDArray[np.float64] = np.where(equal, 1.0, (x * y).sum(axis=1) / np.where(lengths, lengths, 1.0))
    return cosines


def _classes(labels: Targets) -> bool:
    """Whether labels are two classes or more."""
    return labels.ndim == 1 and labels.dtype.kind in "iu" and len(np.unique(labels)) > 1


def _retrieved(outputs: Tensor, y: Tensor) -> tuple[int, int]:
    """Samples whose nearest other is of their class, of those whose class has others."""
    unit = F.normalize(outputs, dim=1)
    _, place, sizes = torch.unique(y, return_inverse=True, return_counts=True)
    asked = sizes[place] > 1
    right = 0
    for start in range(0, len(y), BLOCK):
        near = unit[start : start + BLOCK] @ unit.T
        near[torch.arange(len(near)), torch.arange(start, start + len(near))] = -torch.inf
        alike = y[near.argmax(1)] == y[start : start + BLOCK]
        right += int((alike & asked[start : start + BLOCK]).sum())
    return right, int(asked.sum())
