"""A class for each pixel: the largest of its outputs wins, of those that tie the lowest.

``IoU = tp / (tp + fp + fn)`` of a class over all pixels of all images; mIoU is the mean over the classes that
are there or were found. Pixels labelled −100, or 255 where there are no so many classes, take no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from stages.tasks.answering import Answer, Wording
from stages.tasks.base import Measure, Outputs, Targets
from stages.tasks.probabilities import softmax_divergence
from stages.tasks.targets import described, integral, of_output, range_of, remedy

IGNORED = (-100, 255)

MIOU = Measure(key="miou", title="mIoU")


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Mean intersection over union, and the share of pixels; trained by cross-entropy.

    All outputs of the test samples are kept until they are measured: ``evaluate.samples`` bounds them.
    """

    name: ClassVar[str] = "segmentation"
    measures: ClassVar[tuple[Measure, ...]] = (MIOU, Measure(key="pixel_accuracy", title="pixel accuracy"))
    batched: ClassVar[Measure] = MIOU
    decision: ClassVar[str] = "map"
    single: ClassVar[bool] = False
    smooths: ClassVar[bool] = True
    placed: ClassVar[bool] = True

    def outputs(self, num_classes: int) -> int:
        """One a class, at every pixel."""
        return num_classes

    def misfits(self, shape: tuple[int, ...], num_classes: int, labels: Targets) -> Iterator[str]:
        """Outputs are (N, classes, H, W), labels (N, H, W)."""
        given = f"the network's output is {of_output(shape)}"
        if len(shape) != 3:
            yield (
                f"{given}, and a map a class, (N, {num_classes}, H, W), is taken. Remedy: "
                f"{'task=classification, or ' if len(shape) == 1 else ''}a network that keeps places apart"
            )
        elif shape[0] != num_classes or shape[0] < 2:
            yield (
                f"{given}, and the data has {num_classes} classes. Remedy: a network with a map for each of "
                f"at least two classes{'' if num_classes < 2 else f', here {num_classes}'}"
            )
        if not integral(labels) or labels.ndim != 3:
            yield (
                f"labels are {described(labels)}, and a class for each pixel, integers (N, H, W), is taken. "
                f"Remedy: {remedy(labels)}, or data with maps"
            )
            return
        if len(shape) == 3 and shape[1:] != labels.shape[1:]:
            yield (
                f"{given}, and labels are {described(labels)}: sizes differ. Remedy: a network that ends in "
                "the labels' size, or labels of the output's"
            )
        known = labels[~np.isin(labels, [i for i in IGNORED if not 0 <= i < num_classes])]
        if known.size and not (known.min() >= 0 and known.max() < num_classes):
            yield (
                f"labels are {range_of(known)}, and the data has {num_classes} classes, 0..{num_classes - 1}."
                " Remedy: label pixels that do not count -100 or 255"
            )

    def decisions(self, outputs: Outputs) -> NDArray[Any]:
        """Classes, (N, H, W), in few bytes."""
        few = outputs.shape[1] <= 256
        classes: NDArray[Any] = outputs.argmax(axis=1).astype(np.uint8 if few else np.int32)
        return classes

    def answers(self, outputs: Outputs, wording: Wording) -> list[Answer]:
        """The map and what is in it: ``{"height", "width", "classes", "runs"}``.

        ``classes`` are ``{"label", "index", "score"}`` of those found, the score a share of the pixels, the
        largest first; ``runs`` are pairs ``[class, pixels]``, row by row: numpy's ``repeat`` of the classes
        by the pixels is the map, flat.
        """
        return [_told(classes, wording) for classes in self.decisions(outputs)]

    def tied(self, outputs: Outputs) -> None:
        """Not counted."""

    def figures(
        self, outputs: Outputs, labels: Targets, reference: Outputs | None = None
    ) -> dict[str, float]:
        """Over the pixels that count; none of them where there are none."""
        tally = self.tally(torch.from_numpy(outputs), torch.from_numpy(labels))
        pixels = int(tally.sum())
        if not pixels:
            return {}
        return {"miou": self.score(tally), "pixel_accuracy": int(tally.trace()) / pixels}

    def tally(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Pixels by class, and class found; int64 (classes, classes)."""
        classes = outputs.shape[1]
        known = (y >= 0) & (y < classes)
        pairs = y[known] * classes + outputs.argmax(1)[known]
        return torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)

    def score(self, tally: Tensor) -> float:
        """Mean intersection over union."""
        counts = tally.cpu().double()
        right = counts.diagonal()
        union = counts.sum(0) + counts.sum(1) - right
        known = union > 0
        return float((right[known] / union[known]).mean()) if known.any() else float("nan")

    def loss(self, outputs: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy over the pixels that count; 0 where there are none."""
        known = (y >= 0) & (y < outputs.shape[1])
        target = torch.where(known, y, -100)
        total = F.cross_entropy(
            outputs, target, ignore_index=-100, reduction="sum", label_smoothing=label_smoothing
        )
        return total / known.sum().clamp(min=1)

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """Kullback-Leibler of the classes' probabilities, in nats, the mean over pixels."""
        return softmax_divergence(outputs, teacher, temperature)


def _told(classes: NDArray[Any], wording: Wording) -> Answer:
    """One map, (H, W), as JSON."""
    height, width = classes.shape
    flat = classes.reshape(-1).astype(np.int64)
    found, counts = np.unique(flat, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    lengths = np.diff(starts, append=flat.size)
    return {
        "height": height,
        "width": width,
        "classes": [wording.choice(int(found[i]), counts[i] / flat.size) for i in order],
        "runs": [[int(flat[start]), int(pixels)] for start, pixels in zip(starts, lengths, strict=True)],
    }
