"""What stages hand to each other: values that can be saved to a folder and loaded from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, Self, runtime_checkable


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


@dataclass(frozen=True, kw_only=True)
class ArtifactRef:
    """A stored artifact: its kind, the sha256 over its files, and the folder they lie in."""

    kind: str
    sha256: str
    path: Path
