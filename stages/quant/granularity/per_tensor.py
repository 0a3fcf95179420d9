"""One scale and zero point for a whole tensor."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from stages.quant.qparams import in_memory_order, per_channel


@dataclass(frozen=True, kw_only=True)
class PerTensor:
    """All values share one scale, of shape ``()``.

    ============  =============
    x             observations
    ============  =============
    (8, 3, 5, 5)  (1, 600)
    (10, 64)      (1, 640)
    ============  =============
    """

    def ch_axis(self, ndim: int) -> int | None:
        """Return None: there is one scale, whatever the number of dimensions."""
        return None

    def to_observations(self, x: Tensor) -> Tensor:
        """`x` of any shape as (1, number of elements); a view where `x` is contiguous or channels-last."""
        return per_channel(x, None)


def samples_as_rows(x: Tensor) -> Tensor:
    """Activations (N, …) as (N, m), a row a sample; a view where `x` is contiguous or channels-last.

    A value of less than two dimensions is one row.
    """
    return in_memory_order(x).flatten(1) if x.ndim > 1 else x.reshape(1, -1)
