"""Learned step size quantization (Esser et al. 2020, arXiv 1902.08153, eq. 1–5).

The scale s is learned, with v = x/s and levels −Qn .. Qp::

    y = s · round(clamp(v, −Qn, Qp))
    ∂y/∂x = 1 where −Qn < v < Qp, else 0
    ∂y/∂s = round(v) − v where −Qn < v < Qp, −Qn or Qp outside

The gradient of s is multiplied by ``1 / sqrt(N · Qp)``, N the number of values that share s (in one sample,
for activations), so that steps of s are in proportion to those of the weights. The paper, which does not
calibrate, starts s at ``2 · mean|x| / sqrt(Qp)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stages.quant.estimators.base import FakeQuantizer, Levels, Start, centred_levels, fake_quantized, inside
from stages.quant.qparams import QParams, per_channel

Initial = Literal["mean", "calibrated"]

Passed = Callable[[Tensor, Tensor, Levels], Tensor]
"""(∂L/∂c, v, levels) → ∂L/∂v."""


@dataclass(frozen=True, kw_only=True)
class Lsq:
    """Learned scales of weights and activations.

    Args:
        initial: where scales start: ``calibrated``, where calibration put them; ``mean``, the paper's rule
            above, for networks whose weights have changed since, as in training from scratch.
    """

    initial: Initial = "calibrated"

    def weight(self, start: Start) -> FakeQuantizer:
        """One step a scale of the granularity."""
        return LearnedStep(start, self.initial, inside, samples=False)

    def activation(self, start: Start) -> FakeQuantizer:
        """One step."""
        return LearnedStep(start, self.initial, inside, samples=True)


class LearnedStep(nn.Module):
    """Fake quantization with learned scales.

    Args:
        start: the calibrated state.
        initial: see `Lsq`.
        passed: the gradient of v.
        samples: whether dimension 0 counts samples, which N does not.
    """

    least: Tensor
    zero_point: Tensor

    def __init__(self, start: Start, initial: Initial, passed: Passed, *, samples: bool) -> None:
        super().__init__()
        self._start = start
        self._initial = initial
        self._passed = passed
        self._samples = samples
        self._highest = float(start.qparams.quant_max - start.qparams.zero_point.min())
        self.register_buffer("least", start.qparams.scale * 2.0**-10)
        self.register_buffer("zero_point", start.qparams.zero_point.clone())
        self.scale = nn.Parameter(start.qparams.scale.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Float32 in and out, any shape."""
        return fake_quantized(self, x)

    def levels(self, v: Tensor, given: Tensor | None = None) -> Tensor:
        """Float32 in and out, any shape."""
        with torch.no_grad():  # a step of the optimizer must not take a scale to zero or below
            self.scale.copy_(torch.maximum(self.scale, self.least))
        scale = self._start.usable(self.scale)
        qparams = replace(self._start.qparams, scale=scale, zero_point=self.zero_point)
        values = v[0].numel() if self._samples else v.numel() / self.scale.numel()
        c: Tensor = _Step.apply(  # type: ignore[no-untyped-call]
            v,
            qparams.broadcast(v.ndim)[0],
            Levels.of(qparams, v.ndim, relu=self._start.relu),
            self._passed,
            1.0 / math.sqrt(values * max(self._highest, 1.0)),
            given,
        )
        return c

    def observe(self, x: Tensor, step: Tensor | None = None) -> None:
        """Nothing: scales are learned."""

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """``2 · mean|x| / sqrt(Qp)``, unless the calibrated scale is the start or x is zero."""
        if self._initial == "calibrated":
            return
        values = x.clamp_min(0.0) if self._start.relu else x.abs()
        mean = per_channel(values, self._start.qparams.ch_axis).mean(dim=1).reshape_as(self.scale)
        scale = 2.0 * mean / math.sqrt(max(self._highest, 1.0))
        self.scale.copy_(torch.where(scale > self.least, scale, self.scale))

    def penalty(self) -> Tensor | None:
        """Return None: nothing is added to the loss."""
        return None

    def qparams(self) -> QParams:
        """The present scales."""
        scale = self._start.usable(torch.maximum(self.scale.detach(), self.least))
        return replace(self._start.qparams, scale=scale, zero_point=self.zero_point)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        v: Tensor,
        scale: Tensor,
        levels: Levels,
        passed: Passed,
        gradient_scale: float,
        given: Tensor | None,
    ) -> Tensor:
        c = centred_levels(v, levels, given)
        ctx.save_for_backward(v, c, scale)
        ctx.levels, ctx.passed, ctx.gradient_scale = levels, passed, gradient_scale
        return c

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        v, c, scale = ctx.saved_tensors
        gradient_v = ctx.passed(gradient, v, ctx.levels)
        # ∂y/∂s = c − v · ∂y/∂x, inside and outside alike, and ∂L/∂y = ∂L/∂c / s. In place of v: fresh memory
        # costs more than the arithmetic. (A second backward pass over the same graph is refused by autograd.)
        negative = v.mul_(gradient_v).addcmul_(gradient, c, value=-1.0)
        gradient_s = negative.sum_to_size(scale.shape) / scale * -ctx.gradient_scale
        return gradient_v, gradient_s, None, None, None, None
