"""What a task says of single samples: the line of JSON that ``python -m pipeline.predict`` writes for each.

A task that has words for its outputs gives them by a method ``answers`` (`Answering`); of another one, or
where the task is not known, the numbers themselves are the answer: ``{"values": [...]}``.
"""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

import stages.tasks
from pipeline.errors import PipelineError, alternatives
from stages.tasks.base import Outputs

Answer = dict[str, Any]
"""What is said of one sample, as JSON has it."""

DIGITS = 6
"""Significant digits of a share."""


@dataclass(frozen=True, kw_only=True)
class Wording:
    """How to put an answer.

    Args:
        names: of the outputs by index; None where nobody knows any.
        top: how many classes to list, at least 1; as many as there are where these are fewer.
        shares: whether outputs are probabilities already, as of a program that ends in softmax.
    """

    names: tuple[str, ...] | None = None
    top: int = 5
    shares: bool = False

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top={self.top}: must be at least 1")

    def choice(self, index: int, score: float) -> Answer:
        """One class: ``{"label", "index", "score"}``; the label is None where it has no name."""
        known = self.names is not None and index < len(self.names)
        label = self.names[index] if known and self.names is not None else None
        return {"label": label, "index": index, "score": rounded(score)}

    def best(self, scores: NDArray[np.float64]) -> list[Answer]:
        """The `top` classes of scores (classes,), the largest first; of equal ones the lowest index."""
        order = np.argsort(-scores, kind="stable")[: self.top]
        return [self.choice(int(index), float(scores[index])) for index in order]


@runtime_checkable
class Answering(Protocol):
    """A task that says in words what outputs mean."""

    def answers(self, outputs: Outputs, wording: Wording) -> list[Answer]:
        """One answer a sample, of outputs (N, …)."""


def values(outputs: Outputs) -> list[Answer]:
    """The numbers as they are, in the outputs' shape: ``{"values": …}``, float32 exactly."""
    return [{"values": exact(row)} for row in outputs]


def exact(row: NDArray[np.float32]) -> Any:
    """Numbers as nested lists, each the shortest that reads back as the same float32."""
    return [exact(part) for part in row] if row.ndim else float(str(row))


def rounded(share: float) -> float:
    """A share with `DIGITS` significant digits."""
    return float(f"{share:.{DIGITS}g}")


def softmax(outputs: Outputs) -> NDArray[np.float64]:
    """``exp(o) / Σ exp(o)`` over classes, (N, classes), in float64."""
    shifted = outputs.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def sigmoid(outputs: Outputs) -> NDArray[np.float64]:
    """``1 / (1 + exp(−o))`` of each, in float64, without overflow."""
    shares: NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * outputs.astype(np.float64)))
    return shares


def load_task(name: str) -> Any:
    """The task of that name that comes with the pipeline. Raises `PipelineError` listing the names."""
    known = {}
    for found in pkgutil.iter_modules(stages.tasks.__path__):
        module = import_module(f"stages.tasks.{found.name}")
        for own in vars(module).values():
            if isinstance(own, type) and own.__module__ == module.__name__ and hasattr(own, "measures"):
                known[getattr(own, "name", "")] = own
    known.pop("", None)  # the protocol itself
    if name not in known:
        raise PipelineError(f"task={name}: unknown; {alternatives(name, known)}")
    return known[name]()
