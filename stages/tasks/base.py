"""The protocol of a task, and what is asked of any of them.

A task says what the outputs of a network mean. Outputs are float32 (N, *shape), targets (called labels
throughout) as `stages.data.base.Split` has them. The contract of parity is the same for all: a sample
*agrees* where two forms of the network decide the same, `Task.decisions` being equal in every element.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import PipelineError

Outputs = NDArray[np.float32]
Targets = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A figure by which a task says how good outputs are.

    Args:
        key: in names of metrics: ``integer/<key>``.
        title: in tables.
        better: which way.
        share: whether it is a share, -1..1, written in percent.
    """

    key: str
    title: str
    better: Literal["higher", "lower"] = "higher"
    share: bool = True

    def gain(self, value: float) -> float:
        """The value, signed so that larger is better."""
        return value if self.better == "higher" else -value


@runtime_checkable
class Task(Protocol):
    """What a network is for: a frozen dataclass built from configuration.

    One that cannot learn from all labels that it measures by says so in a method
    ``unlearnable(labels) -> str | None`` (see `require_learnable`).
    """

    name: ClassVar[str]
    """Its option in the group ``task``."""

    measures: ClassVar[tuple[Measure, ...]]
    """The first is the main one, by which runs are ranked."""

    batched: ClassVar[Measure]
    """What `score` gives: the main one, where batches can be added up to it."""

    decision: ClassVar[str]
    """What a form decides about a sample, in words: ``top-1``, ``decision``, ``output``."""

    single: ClassVar[bool]
    """Whether that is one choice a sample, which a level off seldom changes; else a backend that is not exact
    promises no agreement."""

    smooths: ClassVar[bool]
    """Whether `loss` knows label smoothing."""

    placed: ClassVar[bool]
    """Whether targets lie where the image shows them, and would have to move with it."""

    def outputs(self, num_classes: int) -> int:
        """How many outputs a network is built with for data of `num_classes`."""

    def misfits(self, shape: tuple[int, ...], num_classes: int, labels: Targets) -> Iterator[str]:
        """Why outputs of `shape` a sample and such labels are not this task's, each with the remedy."""

    def decisions(self, outputs: Outputs) -> NDArray[Any]:
        """What the outputs decide, (N, …): classes as integers, or the outputs themselves."""

    def tied(self, outputs: Outputs) -> NDArray[np.bool_] | None:
        """The samples, (N,), whose decision is between equals; None where the task has no such thing."""

    def figures(
        self, outputs: Outputs, labels: Targets, reference: Outputs | None = None
    ) -> dict[str, float]:
        """By a measure's key, over all samples; what is not defined is left out.

        Args:
            outputs: of one form of the network.
            labels: the targets of the same samples.
            reference: the float network's outputs; None where these are, or there are none.
        """

    def tally(self, outputs: Tensor, y: Tensor) -> Tensor:
        """What `score` needs to know of a batch; tallies of batches are added."""

    def score(self, tally: Tensor) -> float:
        """The measure `batched`, of what has been added up; NaN where it is not defined."""

    def loss(self, outputs: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """What training minimizes: the mean over the batch, shape ()."""

    def divergence(self, outputs: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
        """How far outputs lie from a teacher's, without labels: the batch's mean, shape (), at least 0.

        Temperature softens probabilities; what has none ignores it.
        """


def require_fit(task: Task, shape: tuple[int, ...], num_classes: int, labels: Targets) -> None:
    """Raise `PipelineError` where outputs of `shape` a sample, or labels, contradict the task."""
    problems = list(task.misfits(tuple(shape), num_classes, labels))
    if problems:
        raise PipelineError("\n".join(f"task={task.name}: {problem}" for problem in problems))


def require_recipe(task: Task, path: str, *, label_smoothing: float, augment: str) -> None:
    """Raise ValueError where a recipe of training, at config path `path`, contradicts the task."""
    if label_smoothing and not task.smooths:
        raise ValueError(
            f"{path}.label_smoothing={label_smoothing:g}: task={task.name} has no labels to smooth. Remedy: "
            f"{path}.label_smoothing=0.0"
        )
    if augment != "none" and task.placed:
        raise ValueError(
            f"{path}.augment={augment}: moves images, and not the maps that belong to them (task={task.name}"
            f"). Remedy: {path}.augment=none"
        )


def require_learnable(task: Task, labels: Targets) -> None:
    """Raise `PipelineError` where labels are not what the task's loss can learn from."""
    reason: Callable[[Targets], str | None] | None = getattr(task, "unlearnable", None)
    if reason is not None and (problem := reason(labels)) is not None:
        raise PipelineError(f"task={task.name}: {problem}")


def agreeing(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """The samples, (N,), on which two forms' `Task.decisions`, (N, …), are equal in every element."""
    same: NDArray[np.bool_] = (a == b).reshape(len(a), -1).all(axis=1)
    return same


def figures_by_form(task: Task, outputs: Mapping[str, Outputs], labels: Targets) -> dict[str, float]:
    """``<form>/<measure>`` of each form's outputs; ``float`` is what the others are held against."""
    return {
        f"{form}/{key}": value
        for form, own in outputs.items()
        for key, value in task.figures(own, labels, None if form == "float" else outputs.get("float")).items()
    }
