"""Which predictions changed from float to integer: by class, and by pair of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from stages.reporting.samples import class_name
from stages.reporting.svg import drawing, element, text
from stages.reporting.text import shorten

MOST_CLASSES = 30
"""Larger problems show the classes with the most changes."""


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """One class: how often it was predicted, and the share of its samples that was recognised."""

    index: int
    name: str
    float_count: int
    integer_count: int
    float_recall: float | None
    integer_recall: float | None

    @property
    def net(self) -> int:
        """Predictions gained by the integers."""
        return self.integer_count - self.float_count

    @property
    def recall_change(self) -> float | None:
        """Gain in recall; None where the class has no samples."""
        if self.float_recall is None or self.integer_recall is None:
            return None
        return self.integer_recall - self.float_recall


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What quantization changed in the predictions.

    Args:
        samples: test samples.
        changed: those whose predicted class differs.
        corrected, broken: of those, the ones now right, and the ones right before.
        classes: those concerned, the most changes first, at most `MOST_CLASSES`.
        hidden: how many more classes are concerned.
        matrix: int64 (n, n) over `classes` in ascending order: float class by integer class; zero diagonal.
    """

    samples: int
    changed: int
    corrected: int
    broken: int
    classes: tuple[ClassChange, ...]
    hidden: int
    matrix: NDArray[np.int64]


def prediction_changes(
    predictions: Mapping[str, NDArray[np.int64]], names: Sequence[str] | None = None
) -> Changes | None:
    """Compare ``float`` and ``integer``; None where one of them, or ``labels``, is missing or empty.

    None too where they are not one class a sample. `names` are the classes', by index.
    """
    compared = [predictions.get(name) for name in ("labels", "float", "integer")]
    if any(own is not None and (own.ndim != 1 or own.dtype.kind not in "iu") for own in compared):
        return None
    if any(predictions.get(name, np.empty(0)).size == 0 for name in ("labels", "float", "integer")):
        return None
    labels, before, after = (predictions[name] for name in ("labels", "float", "integer"))
    size = int(max(labels.max(), before.max(), after.max())) + 1
    changed = before != after
    pairs = np.stack([before[changed], after[changed]])
    concerned = np.bincount(pairs.ravel(), minlength=size)
    order = np.argsort(-concerned, kind="stable")[: np.count_nonzero(concerned)]
    shown = order[:MOST_CLASSES]
    position = np.full(size, -1)
    position[np.sort(shown)] = np.arange(shown.size)
    rows, columns = position[pairs]
    matrix = np.zeros((shown.size, shown.size), np.int64)
    within = (rows >= 0) & (columns >= 0)
    np.add.at(matrix, (rows[within], columns[within]), 1)
    samples_of = np.bincount(labels, minlength=size)
    counts = [np.bincount(p, minlength=size) for p in (before, after)]
    hits = [np.bincount(labels[p == labels], minlength=size) for p in (before, after)]

    def change(index: int) -> ClassChange:
        total = int(samples_of[index])
        recalls = [int(h[index]) / total if total else None for h in hits]
        return ClassChange(
            index=index,
            name=class_name(index, names),
            float_count=int(counts[0][index]),
            integer_count=int(counts[1][index]),
            float_recall=recalls[0],
            integer_recall=recalls[1],
        )

    return Changes(
        samples=labels.size,
        changed=int(changed.sum()),
        corrected=int((changed & (after == labels)).sum()),
        broken=int((changed & (before == labels)).sum()),
        classes=tuple(change(int(index)) for index in shown),
        hidden=order.size - shown.size,
        matrix=matrix,
    )


def confusion_plot(changes: Changes) -> Markup:
    """A cell for each pair of classes, as dark as predictions moved from the row's class to the column's."""
    indices = sorted(row.index for row in changes.classes)
    named = {row.index: row.name for row in changes.classes}
    names = [shorten(named[index], 14) for index in indices]
    cell = 30 if len(indices) <= 12 else 20
    longest = max(map(len, names))
    slanted = longest > 3  # names that are wider than a cell
    left, top = max(56, 16 + 7 * longest), 30 + 5 * longest if slanted else 48
    most = max(int(changes.matrix.max(initial=0)), 1)
    marks = [
        text(left, 12, "integer →", class_="title"),
        text(left - 8, top - 8, "float ↓", anchor="end", class_="title"),
    ]
    for i, name in enumerate(names):
        marks.append(text(left - 8, top + cell * (i + 0.5) + 4, name, anchor="end", class_="label"))
        x, y = left + cell * (i + 0.5), top - 8
        if slanted:
            turn = f"rotate(-50 {x} {y})"
            marks.append(element("text", name, x=x, y=y, class_="label", transform=turn))
        else:
            marks.append(text(x, y, name, anchor="middle", class_="label"))
        marks.extend(
            _cells(
                [named[index] for index in indices], i, changes.matrix[i].tolist(), most, (left, top, cell)
            )
        )
    side = cell * len(indices)
    beside = 4 * longest if slanted else 8
    return drawing(
        left + side + beside, top + side + 8, "Predictions that changed from float to integer", *marks
    )


def _cells(
    names: list[str], i: int, counts: list[int], most: int, place: tuple[int, int, int]
) -> list[Markup]:
    left, top, cell = place
    marks = []
    for j, n in enumerate(counts):
        x, y = left + cell * j, top + cell * i
        box: dict[str, object] = {"x": x + 1, "y": y + 1, "width": cell - 2, "height": cell - 2, "rx": 2}
        if i == j or not n:
            marks.append(element("rect", **box, class_="same" if i == j else "cell"))
            continue
        share = 0.15 + 0.85 * n / most
        tooltip = element("title", f"{n} from {names[i]} to {names[j]}")
        marks.append(element("rect", **box, class_="cell"))
        marks.append(element("rect", tooltip, **box, class_="heat", fill_opacity=f"{share:.2f}"))
        class_ = "count over" if share > 0.55 else "count"
        marks.append(text(x + cell / 2, y + cell / 2 + 4.0, str(n), anchor="middle", class_=class_))
    return marks
