"""What stages hand to each other: values that can be saved to a folder and loaded from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

from numpy.typing import NDArray


@runtime_checkable
class Artifact(Protocol):
    """A typed value that survives on disk. Files hold no pickle: JSON, safetensors, npz without objects."""

    kind: ClassVar[str]
    """Name of the type, unique in a pipeline: ``float_model``, ``integer_program``, …"""

    def save(self, directory: Path) -> None:
        """Write the artifact's files into `directory`, which exists and is empty."""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what `save` wrote. Raises `ValueError` naming the file where it is not readable."""


Figures = tuple[tuple[int | None, Mapping[str, float]], ...]
"""What a stage recorded as it ran, in order: the step, if there was one, and finite numbers by name."""


@dataclass(frozen=True, kw_only=True)
class ArtifactRef:
    """A stored artifact.

    Args:
        kind: its type's name.
        sha256: over its files, by which what is made from it is addressed.
        path: the folder they lie in.
        figures: what its stage recorded; none for an entry of an earlier version.
    """

    kind: str
    sha256: str
    path: Path
    figures: Figures = ()


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What a tracker needs to log an artifact as a model that answers requests.

    Args:
        name: the model's name in the record.
        folder: the saved artifact.
        loader_module: module whose ``_load_pyfunc(folder)`` gives an object with ``predict(data, params)``.
        example: an input, batch first.
        outputs: shape of the float32 output, without the batch.
        params: names and defaults of ``predict``'s parameters.
        requirements: distributions that the loader needs, beside this project.
        code: wheels with what the loader runs by; none where that has to be installed.
        config: what ``_load_pyfunc`` takes beside the folder, with defaults; who serves may give others.
    """

    name: str
    folder: Path
    loader_module: str
    example: NDArray[Any]
    outputs: tuple[int, ...]
    params: Mapping[str, str]
    requirements: tuple[str, ...]
    code: tuple[Path, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
