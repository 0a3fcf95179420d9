"""What a deployed program's input and outputs mean: ``preprocessing.json`` beside the program's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.errors import PipelineError
from stages.data.base import Data, class_names

FILE = "preprocessing.json"

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)
"""What reading fields raises where a document holds something else."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """How to make the program's input, and what its outputs are called.

    The input is float32: ``(x − mean) / std`` per channel, x in [0, 1] where samples are images.

    Args:
        shape: of one sample, without the batch.
        mean: one a channel; empty for 0.
        std: one a channel; empty for 1.
        classes: names of the outputs by index; None where the data set knows none.
        image: what happens to an image before, as `Preprocessing` has it; None where nothing is said.
        task: what the outputs mean, an option of the group ``task``; None where nothing is said.
    """

    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] | None = None
    image: dict[str, Any] | None = None
    task: str | None = None

    @classmethod
    def of(cls, data: Data, task: str | None = None) -> Self:
        """What `data` says of its samples, and the name of the task."""
        how = getattr(data, "preprocessing", None)
        return cls(
            shape=tuple(data.shape),
            mean=tuple(data.mean),
            std=tuple(data.std),
            classes=class_names(data),
            image=None if how is None else asdict(how),
            task=task,
        )

    def save(self, folder: Path) -> None:
        """Write ``preprocessing.json`` into `folder`, which exists."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """Read what `save` wrote; None where `folder` has no such file.

        Raises:
            PipelineError: the file cannot be read.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            return cls._of(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, *_UNREADABLE) as error:
            raise PipelineError(
                f"{path}: not a readable description ({type(error).__name__}: {error}). Remedy: take the "
                "program/ folder that a run left, whole, or delete the file to do without names"
            ) from error

    @classmethod
    def of_metadata(cls, metadata: Mapping[str, str]) -> Self | None:
        """Read what `metadata` gave; None where that is of somebody else, who says other things."""
        try:
            return cls._of({"classes": None, "image": None} | {k: json.loads(v) for k, v in metadata.items()})
        except _UNREADABLE:
            return None

    @classmethod
    def _of(cls, document: Any) -> Self:
        """Read JSON. Raises one of `_UNREADABLE` where it is something else."""
        names, image, task = document["classes"], document["image"], document.get("task")
        return cls(
            shape=tuple(map(int, document["shape"])),
            mean=tuple(map(float, document["mean"])),
            std=tuple(map(float, document["std"])),
            classes=None if names is None else tuple(map(str, names)),
            image=None if image is None else dict(image),
            task=None if task is None else str(task),
        )

    def metadata(self) -> dict[str, str]:
        """The same as flat text, each value JSON, for the metadata of a foreign file."""
        return {
            name: json.dumps(value, ensure_ascii=False)
            for name, value in asdict(self).items()
            if value is not None
        }
