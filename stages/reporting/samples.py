"""Pictures of the samples on which float and integers differ."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_SAMPLES = 24
SIDE = 96
"""Pixels of the longer side, at least: small images are enlarged without smoothing, large ones reduced."""


@dataclass(frozen=True, kw_only=True)
class ChangedSample:
    """One of them.

    Args:
        row: its place in the test split.
        label, before, after: the class, and what float and integers say it is: names, or indices.
        picture: a PNG as ``data:`` address; empty where the sample is no image.
    """

    row: int
    label: str
    before: str
    after: str
    picture: str

    @property
    def change(self) -> str:
        """``corrected``, ``broken``, or ``wrong`` both before and after."""
        return {self.after: "corrected", self.before: "broken"}.get(self.label, "wrong")


def changed_samples(
    predictions: Mapping[str, NDArray[np.int64]],
    images: NDArray[np.generic],
    rows: NDArray[np.int64],
    names: Sequence[str] | None,
) -> tuple[ChangedSample, ...]:
    """Show the first `MOST_SAMPLES` whose predicted class differs; those that became wrong come first.

    Args:
        predictions: ``labels``, ``float`` and ``integer``, each (N,).
        images: of the test split, (M, …); uint8 (M, 1 or 3, H, W) are drawn.
        rows: (N,), the samples' places in the split.
        names: of the classes, by index; None where nobody knows.
    """
    labels, before, after = (predictions[name] for name in ("labels", "float", "integer"))
    changed = np.flatnonzero(before != after)
    broken = before[changed] == labels[changed]
    shown = changed[np.argsort(~broken, kind="stable")][:MOST_SAMPLES]
    return tuple(
        ChangedSample(
            row=int(rows[index]),
            label=class_name(int(labels[index]), names),
            before=class_name(int(before[index]), names),
            after=class_name(int(after[index]), names),
            picture=_picture(images[rows[index]]),
        )
        for index in shown
    )


def class_name(index: int, names: Sequence[str] | None) -> str:
    """A class's name; its index where there is none."""
    return names[index] if names is not None and 0 <= index < len(names) else str(index)


def _picture(sample: NDArray[np.generic]) -> str:
    if sample.dtype != np.uint8 or sample.ndim != 3 or sample.shape[0] not in (1, 3):
        return ""
    pixels = np.asarray(sample).transpose(1, 2, 0)
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    times = -(-SIDE // max(image.size))
    if times > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    else:
        image.thumbnail((2 * SIDE, 2 * SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
