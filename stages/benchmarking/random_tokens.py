"""Random tokens: for measuring the time of text encoders, which does not depend on what texts say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pipeline.seed import derive_seed
from stages.data.base import Split


@dataclass(frozen=True, kw_only=True)
class RandomTokens:
    """Uniform numbers of tokens, each 0 .. vocabulary-1; the same ones every time.

    Args:
        length: tokens of a text.
        vocabulary: how many there are.
        samples: in each split.
    """

    name: ClassVar[str] = "random_tokens"
    tokens: ClassVar[bool] = True
    num_classes: ClassVar[int] = 2
    mean: ClassVar[tuple[float, ...]] = ()
    std: ClassVar[tuple[float, ...]] = ()

    length: int = 128
    vocabulary: int = 30522
    samples: int = 64

    def __post_init__(self) -> None:
        for name in ("length", "vocabulary", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")

    @property
    def shape(self) -> tuple[int, ...]:
        """One text."""
        return (self.length,)

    def train(self) -> Split:
        """`samples` texts."""
        return self._split("train")

    def test(self) -> Split:
        """`samples` other texts."""
        return self._split("test")

    def check(self) -> None:
        """Nothing can be missing."""

    def fingerprint(self) -> str:
        """The fields say it all."""
        return repr(self)

    def _split(self, name: str) -> Split:
        generator = np.random.default_rng(derive_seed(0, f"random_tokens/{name}"))
        tokens = generator.integers(0, self.vocabulary, (self.samples, self.length), dtype=np.int64)
        return Split(images=tokens, labels=np.zeros(self.samples, np.int64))
