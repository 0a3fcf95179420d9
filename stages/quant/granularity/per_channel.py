"""A scale and zero point for each output channel of a weight."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class PerChannel:
    """Each slice along dimension 0 has its own scale, of shape ``(O,)``: ``W[o] ≈ s[o]·(q[o] − z[o])``.

    ============  =============  ======  ============================================
    weight        observations   scale   layer
    ============  =============  ======  ============================================
    (8, 3, 5, 5)  (1, 8, 75)     (8,)    convolution, 8 output channels
    (8, 1, 3, 3)  (1, 8, 9)      (8,)    depthwise convolution
    (10, 64)      (1, 10, 64)    (10,)   linear, 10 output features
    ============  =============  ======  ============================================

    An output channel's scale can be taken out of the sum that computes it, so integer kernels support it
    (Krishnamoorthi 2018, arXiv 1806.08342, section 2.5). An input channel's cannot.
    """

    def ch_axis(self, ndim: int) -> int | None:
        """0, the output channel."""
        if ndim < 1:
            raise ValueError("per-channel scales need a tensor with channels, got a scalar (0 dimensions)")
        return 0

    def to_observations(self, x: Tensor) -> Tensor:
        """`x` of shape (O, …) as (1, O, m); a view where `x` is contiguous."""
        self.ch_axis(x.ndim)
        return x.reshape(1, x.shape[0], -1)
