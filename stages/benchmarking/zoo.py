"""What a zoo of networks offers: families of architectures, and of each a network to follow to integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class Network:
    """One network of a family, not built yet.

    Args:
        name: as the zoo names it.
        parameters: how many it has; counted without memory.
        shape: of one sample of its input.
        dtype: of its input: float32, or int64 for tokens.
        build: makes it, with random weights.
    """

    name: str
    parameters: int
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    build: Callable[[], nn.Module]


@runtime_checkable
class Zoo(Protocol):
    """A collection of architectures: a frozen dataclass built from configuration."""

    @property
    def name(self) -> str:
        """For records: ``timm``, ``transformers``."""

    def check(self) -> None:
        """Raise `ConfigError` with the remedy where its package is not installed."""

    def families(self) -> tuple[str, ...]:
        """The names of all its families."""

    def network(self, family: str) -> Network:
        """The network that stands for a family. ValueError with the reason where none can be built."""


def count_parameters(build: Callable[[], nn.Module]) -> int:
    """The number of parameters of a network, which is built without memory for them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())
