"""A scale and zero point for each group of input channels of each output channel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PerGroup:
    """Weights of linear layers and 1×1 convolutions in groups along the input channels, others per channel.

    ``W[o, i] ≈ s[o, g]·(q[o, i] − z[o, g])``, g = ⌊i / size⌋, where size is the largest divisor of I that is
    at most `group_size`; a layer whose inputs make one group has a scale for each output channel, ``(O,)``.

    ===============  ==========  ===============  ========  =====================================
    weight           group_size  observations     scale     layer
    ===============  ==========  ===============  ========  =====================================
    (10, 64)         16          (1, 10, 4, 16)   (10, 4)   linear
    (8, 24, 1, 1)    16          (1, 8, 2, 12)    (8, 2)    1×1 convolution
    (10, 64)         64          (1, 10, 64)      (10,)     linear, one group
    (8, 3, 5, 5)     16          (1, 8, 75)       (8,)      convolution over neighbours
    ===============  ==========  ===============  ========  =====================================

    A group's sum has steps of its own: kernels keep an accumulator a group, bring each to the steps of the
    output, and add them (Dai et al. 2021, arXiv 2102.04503). Only the reference kernels do.

    Args:
        group_size: most input channels that share a scale, at least 1.
    """

    group_size: int = 16

    def __post_init__(self) -> None:
        if self.group_size < 1:
            raise ValueError(f"group_size={self.group_size}: must be at least 1")

    def ch_axis(self, ndim: int) -> int | None:
        """0, the output channel."""
        if ndim < 2:
            raise ValueError(f"per-group scales need weights with input channels, got {ndim} dimensions")
        return 0

    def to_observations(self, x: Tensor) -> Tensor:
        """`x` of shape (O, I, …) as (1, O, G, size), or (1, O, m) where there are no groups."""
        self.ch_axis(x.ndim)
        pointwise = x[0, 0].numel() == 1
        size = self._size(x.shape[1]) if pointwise else x.shape[1]
        return x.reshape(1, len(x), -1) if size == x.shape[1] else x.reshape(1, len(x), -1, size)

    def _size(self, channels: int) -> int:
        return next(size for size in range(min(self.group_size, channels), 0, -1) if channels % size == 0)
