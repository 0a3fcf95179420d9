"""Accuracies that speak against the data, not the network: chance, and classes out of order.

Where predictions p and labels q are independent, ``e = Σ p_k q_k`` of the samples agree: a share that lies
above e by no more than counting explains is *chance*. Where the best other order of K classes, by Kuhn's
assignment, makes ``1/K + sqrt((ln K! + ln 1000) / 2N)`` of the predictions right, which random ones do in
none of a thousand cases (Hoeffding's bound over all K! orders), the labels are out of order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from stages.tasks.base import Outputs

LEAST = 30
"""With fewer samples, every share may be chance."""

QUANTILE = 1.645
"""In 5% of the cases chance gets more."""

GAIN = 0.25
"""Share of all samples that another order has to bring."""


def doubts(outputs: Outputs, labels: NDArray[np.int64], classes: Sequence[str] | None) -> tuple[str, ...]:
    """What is suspicious about a classifier's predictions, each with what to look at; empty where nothing is.

    Args:
        outputs: (N, K).
        labels: (N,), classes 0 .. K-1.
        classes: their names by index, None where nobody knows.
    """
    count, outcomes = outputs.shape
    if count < LEAST or outcomes < 2:
        return ()
    predicted = outputs.argmax(axis=1)
    share = float((predicted == labels).mean())
    table = np.zeros((outcomes, outcomes), np.int64)
    np.add.at(table, (predicted, labels), 1)
    rows, columns = linear_sum_assignment(table, maximize=True)
    best = float(table[rows, columns].sum()) / count
    random = 1.0 / outcomes + math.sqrt((math.lgamma(outcomes + 1) + math.log(1000)) / (2 * count))
    if best > random and best - share > GAIN:
        return (_out_of_order(share, best, columns, table, classes),)
    frequencies = (np.bincount(values, minlength=outcomes) / count for values in (predicted, labels))
    chance = float(np.prod(list(frequencies), axis=0).sum())
    if share <= chance + QUANTILE * math.sqrt(chance * (1.0 - chance) / count):
        return (
            f"float top-1 is {share:.2%}, no better than chance ({chance:.2%}): look at model.weights, the "
            "order of the classes (data.classes), data.mean, data.std and the preprocessing, which have to "
            "be the training's",
        )
    return ()


def _out_of_order(
    share: float,
    best: float,
    order: NDArray[np.intp],
    table: NDArray[np.int64],
    classes: Sequence[str] | None,
) -> str:
    """The remedy can be written out where every class was seen."""
    remedy = "data.classes=… with the class of each output"
    if classes is not None and len(classes) <= 20 and table.sum(axis=0).all():
        remedy = f"'data.classes=[{','.join(classes[index] for index in order)}]'"
    return (
        f"float top-1 is {share:.2%}, and would be {best:.2%} with the classes in another order: {remedy}"
        ", if that is the order that the network was trained with"
    )
