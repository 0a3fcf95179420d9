"""Values of all calibration samples at once, within a limit of memory."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor


class Values:
    """Named float32 tensors: in memory up to a limit, beyond it in memory-mapped files.

    Args:
        limit: bytes to hold in memory.
        folder: where files go. Each is unlinked once it is mapped, so that none is left behind by a kill.
    """

    def __init__(self, limit: int, folder: Path) -> None:
        self._limit = limit
        self._folder = folder
        self._tensors: dict[str, Tensor] = {}
        self._in_memory: dict[str, int] = {}

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def allocate(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """An uninitialized tensor, kept under `name` until it is dropped."""
        size = 4 * math.prod(shape)
        if sum(self._in_memory.values()) + size <= self._limit:
            self._in_memory[name] = size
            tensor = torch.empty(shape)
        else:
            tensor = self._map(shape)
        self._tensors[name] = tensor
        return tensor

    def drop(self, name: str) -> None:
        """Let go of a tensor, and of its memory or file."""
        del self._tensors[name]
        self._in_memory.pop(name, None)

    def _map(self, shape: tuple[int, ...]) -> Tensor:
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix="values-") as file:
            count = math.prod(shape)
            return torch.from_file(file.name, shared=True, size=count, dtype=torch.float32).reshape(shape)
