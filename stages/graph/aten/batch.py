"""Where the batch lies in a traced value.

A network is traced with a batch of one prime size, which no other dimension is a multiple of. A dimension of
``outer · batch · inner`` then shows where the samples are: alone (``outer = inner = 1``) in the first place
or another, or merged with what is one sample's, as windows of attention are. A graph's values are
batch-first, ``(N, *sample)``: the batch is taken out of its dimension, which is left out where nothing else
was in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from stages.graph.aten.refusal import RefusalError

PRIMES = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051, 1061)
"""Sizes of batches to trace with."""


def batch_size(sizes: Iterable[int]) -> int:
    """A prime that none of the `sizes`, a network's, is a multiple of."""
    known = set(sizes)
    return next(p for p in PRIMES if not any(size and size % p == 0 for size in known))


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A traced value's shape, and where its samples are.

    Args:
        shape: as traced, the batch in it.
        batch: the size of the batch.
        dim: the dimension that holds it.
        outer: the part of that dimension that lies outside of the batch: windows of (N·W) have 1, the parts
            of a concatenation along the batch as many as there are.
    """

    shape: tuple[int, ...]
    batch: int
    dim: int
    outer: int = 1

    @classmethod
    def of(cls, shape: Sequence[int], batch: int, sources: Sequence[Placement] = ()) -> Placement:
        """The layout of what is computed from `sources` without moving the batch within its dimension.

        Raises:
            RefusalError: no dimension, or several, hold the batch.
        """
        dim = _batch_dim(shape, batch)
        own = shape[dim] // batch
        outer = next((s.outer for s in sources if s.shape[s.dim] // s.batch == own), 1)
        return cls(shape=tuple(shape), batch=batch, dim=dim, outer=outer)

    def reshaped(self, shape: Sequence[int]) -> Placement:
        """The layout after a reshape.

        Raises:
            RefusalError: the samples do not stay whole in one dimension.
        """
        dim = _batch_dim(shape, self.batch)
        before = math.prod(self.shape[: self.dim]) * self.outer
        outer, rest = divmod(before, math.prod(shape[:dim]))
        if rest or outer == 0 or shape[dim] // self.batch % outer:
            raise RefusalError(
                f"reshapes {self._named(self.shape)} to {self._named(shape)}: mixes the samples"
            )
        return Placement(shape=tuple(shape), batch=self.batch, dim=dim, outer=outer)

    @property
    def inner(self) -> int:
        """The part of the batch's dimension that lies inside of the batch."""
        return self.shape[self.dim] // (self.batch * self.outer)

    @property
    def alone(self) -> bool:
        """Whether the batch has a dimension of its own."""
        return self.shape[self.dim] == self.batch

    @property
    def first(self) -> bool:
        """Whether the batch is the first dimension, alone."""
        return self.dim == 0 and self.alone

    @property
    def sample(self) -> tuple[int, ...]:
        """The shape of one sample."""
        own = () if self.alone else (self.outer * self.inner,)
        return (*self.shape[: self.dim], *own, *self.shape[self.dim + 1 :])

    def is_batch(self, dim: int) -> bool:
        """Whether a dimension, negative ones counted from the end, holds the batch."""
        return dim % len(self.shape) == self.dim

    def axis(self, dim: int) -> int:
        """A dimension, negative ones counted from the end, as a sample's. RefusalError for the batch's."""
        dim = int(dim) % max(len(self.shape), 1)
        if dim == self.dim:
            raise RefusalError(
                "works along the batch dimension: a network has to treat each sample by itself"
            )
        return dim - 1 if self.alone and dim > self.dim else dim

    def _named(self, shape: Sequence[int]) -> str:
        """A shape with N for the batch."""
        names = [str(n) if n % self.batch or not n else _times(n // self.batch) for n in shape]
        return f"({', '.join(names)})"


def batch_first(x: Tensor, dim: int, outer: int, inner: int) -> Tensor:
    """A value as traced, with any number of samples N, to (N, *sample)."""
    before, after = x.shape[:dim], x.shape[dim + 1 :]
    samples = x.shape[dim] // (outer * inner)
    split = x.reshape(*before, outer, samples, inner, *after).movedim(dim + 1, 0)
    own = () if outer * inner == 1 else (outer * inner,)
    return split.reshape(samples, *before, *own, *after)


def as_traced(x: Tensor, dim: int, outer: int, inner: int) -> Tensor:
    """(N, *sample) to the value as traced: undoes `batch_first`."""
    sample = x.shape[1:]
    before, after = sample[:dim], sample[dim + (outer * inner > 1) :]
    split = x.reshape(len(x), *before, outer, inner, *after).movedim(0, dim + 1)
    return split.reshape(*before, outer * len(x) * inner, *after)


def _batch_dim(shape: Sequence[int], batch: int) -> int:
    found = [dim for dim, size in enumerate(shape) if size and size % batch == 0]
    if len(found) != 1:
        what = "no dimension" if not found else f"{len(found)} dimensions"
        raise RefusalError(f"its result has {what} of the batch: it mixes the samples")
    return found[0]


def _times(factor: int) -> str:
    return "N" if factor == 1 else f"N·{factor}"
