"""One scale and zero point for a whole tensor."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stages.quant.granularity.base import check_activation
from stages.quant.qparams import per_channel


@dataclass(frozen=True, kw_only=True)
class PerTensor:
    """All values share one scale, of shape ``()``.

    ============  =============
    x             observations
    ============  =============
    (8, 3, 5, 5)  (1, 600)
    (10, 64)      (1, 640)
    ============  =============

    Args:
        activation: the granularity of activations, which can only be ``per_tensor``.
    """

    activation: str = "per_tensor"

    def __post_init__(self) -> None:
        check_activation(self.activation)

    def ch_axis(self, ndim: int) -> int | None:
        """Return None: there is one scale, whatever the number of dimensions."""
        return None

    def to_observations(self, x: Tensor) -> Tensor:
        """`x` of any shape as (1, number of elements); a view where `x` is contiguous or channels-last."""
        return per_channel(x, None)
