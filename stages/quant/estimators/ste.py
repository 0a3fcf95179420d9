"""The straight-through estimator (Bengio et al. 2013; Krishnamoorthi 2018, eq. 10).

Rounding is passed through, clamping is not::

    ∂y/∂x = 1 where min ≤ x ≤ max, else 0

The range [min, max] is observed: a weight's is that of its current values, an activation's an exponential
moving average over batches, ``range ← m · range + (1 − m) · batch range``, which starts at the calibrated
one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from stages.quant.estimators.base import (
    Extremes,
    FakeQuantizer,
    Levels,
    Start,
    centred_levels,
    fake_quantized,
    inside,
    representable,
)
from stages.quant.qparams import QParams, in_memory_order, per_channel

ENDS = 2.0**-20
"""Slack that puts min and max themselves inside: a channel's largest weight must be able to shrink."""


@dataclass(frozen=True, kw_only=True)
class Ste:
    """Straight-through gradients, observed ranges.

    Args:
        momentum: m above, in [0, 1), per batch.
    """

    momentum: float = 0.99

    def __post_init__(self) -> None:
        if not 0.0 <= self.momentum < 1.0:
            raise ValueError(f"momentum={self.momentum}: must be in [0, 1)")

    def weight(self, start: Start) -> FakeQuantizer:
        """The range of each moment's weights."""
        return ObservedRange(start, momentum=0.0)

    def activation(self, start: Start) -> FakeQuantizer:
        """The moving average of the batches' ranges."""
        return ObservedRange(start, momentum=self.momentum)


class ObservedRange(nn.Module):
    """Fake quantization over an observed range, with the straight-through gradient."""

    minimum: Tensor
    maximum: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, start: Start, momentum: float) -> None:
        super().__init__()
        self._start = start
        self._momentum = momentum
        self.shared: Extremes | None = None
        minimum, maximum = representable(start.qparams)
        self.register_buffer("minimum", minimum)
        self.register_buffer("maximum", maximum)
        self.register_buffer("scale", start.qparams.scale.clone())
        self.register_buffer("zero_point", start.qparams.zero_point.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Float32 in and out, any shape."""
        return fake_quantized(self, x)

    def levels(self, v: Tensor, given: Tensor | None = None) -> Tensor:
        """Float32 in and out, any shape."""
        c: Tensor = _StraightThrough.apply(  # type: ignore[no-untyped-call]
            v, Levels.of(self.qparams(), v.ndim, relu=self._start.relu), given
        )
        return c

    @torch.no_grad()
    def observe(self, x: Tensor, step: Tensor | None = None) -> None:
        """Move the range towards that of `x`."""
        ch_axis = self._start.qparams.ch_axis
        low, high = (
            in_memory_order(x).aminmax() if ch_axis is None else per_channel(x, ch_axis).aminmax(dim=1)
        )
        if step is not None:
            low, high = low * step, high * step
        if self._start.relu:
            low, high = low.clamp_min_(0.0), high.clamp_min_(0.0)
        if self.shared is not None:
            low, high = self.shared(low, high)
        self.minimum.lerp_(low.reshape_as(self.minimum), 1.0 - self._momentum)
        self.maximum.lerp_(high.reshape_as(self.maximum), 1.0 - self._momentum)
        found = self._start.scheme(self.minimum, self.maximum)
        self.scale.copy_(found.scale)
        self.zero_point.copy_(found.zero_point)

    def initialize(self, x: Tensor) -> None:
        """Nothing: the calibrated range is the start."""

    def penalty(self) -> Tensor | None:
        """Return None: nothing is added to the loss."""
        return None

    def qparams(self) -> QParams:
        """The present scale and zero point."""
        start = self._start.qparams
        return QParams(
            scale=self.scale.clone(),
            zero_point=self.zero_point.clone(),
            quant_min=start.quant_min,
            quant_max=start.quant_max,
            ch_axis=start.ch_axis,
        )


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, levels: Levels, given: Tensor | None) -> Tensor:
        ctx.save_for_backward(v)
        ctx.levels = levels
        return centred_levels(v, levels, given)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (v,) = ctx.saved_tensors
        return inside(gradient, v, ctx.levels, ENDS), None, None
