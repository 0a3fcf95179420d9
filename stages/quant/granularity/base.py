"""The protocol of a granularity: it alone knows which dimensions of a weight share a scale.

Activations have one scale each. A layer sums over its input channels, ``Σ_c s_c·qx_c·qw_c``: scales that
differ by input channel cannot be taken out of the sum, so no integer kernel computes it.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Granularity(Protocol):
    """Owns shapes, so that calibrators and quantizers need not.

    ``qparam_shape`` is the shape of scale and zero point: ``()`` where all values share them, ``(C,)``
    where each slice along `ch_axis` has its own.
    """

    def ch_axis(self, ndim: int) -> int | None:
        """The dimension that scales run along, for a tensor of `ndim` dimensions; None for one scale."""

    def to_observations(self, x: Tensor) -> Tensor:
        """`x` as ``(n, *qparam_shape, m)``: what shares a scale lies along the first and last dimension."""
