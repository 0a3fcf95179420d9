"""Parameterized clipping activation (Choi et al. 2018, arXiv 1805.06085, eq. 1–3).

The clipping value α of each activation is learned; 2^b levels lie between 0 and α::

    y = scale · round(clamp(x, 0, α) / scale),   scale = α / quant_max
    ∂y/∂x = 1 where 0 < x < α, else 0
    ∂y/∂α = 1 where x ≥ α, else 0

An L2 penalty on α, ``decay/2 · Σ α²``, draws ranges in that clip too little. The paper's activations come
out of a ReLU. Where negative values occur, α is the end farther from zero, both ends are proportional to
it, and ``∂y/∂α`` beyond either is ``end / α``: −1 below symmetric levels.

Weights have the straight-through estimator over their own range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from stages.quant.estimators.base import FakeQuantizer, Levels, Start, centred_levels, fake_quantized, inside
from stages.quant.estimators.ste import ObservedRange
from stages.quant.qparams import QParams


@dataclass(frozen=True, kw_only=True)
class Pact:
    """Learned clipping of activations.

    Args:
        decay: weight of the L2 penalty on α.
    """

    decay: float = 1e-4

    def __post_init__(self) -> None:
        if self.decay < 0.0:
            raise ValueError(f"decay={self.decay}: must not be negative")

    def weight(self, start: Start) -> FakeQuantizer:
        """Straight through, over the range of each moment's weights."""
        return ObservedRange(start, momentum=0.0)

    def activation(self, start: Start) -> FakeQuantizer:
        """A clipping value of its own, which starts at the calibrated maximum."""
        return LearnedClip(start, self.decay)


class LearnedClip(nn.Module):
    """Fake quantization of a tensor with one scale, up to a learned α."""

    def __init__(self, start: Start, decay: float) -> None:
        super().__init__()
        self._start = start
        self._decay = decay
        zero_point = int(start.qparams.zero_point)
        self._levels_to_alpha = max(
            start.qparams.quant_max - zero_point, zero_point - start.qparams.quant_min
        )
        self._least = float(start.qparams.scale) * self._levels_to_alpha * 2.0**-10
        self.alpha = nn.Parameter(start.qparams.scale * self._levels_to_alpha)

    def forward(self, x: Tensor) -> Tensor:
        """Float32 in and out, any shape."""
        return fake_quantized(self, x)

    def levels(self, v: Tensor, given: Tensor | None = None) -> Tensor:
        """Float32 in and out, any shape."""
        with torch.no_grad():  # a step of the optimizer must not take α to zero or below
            self.alpha.clamp_(min=self._least)
        scale = self._start.usable(self.alpha / self._levels_to_alpha)
        qparams = replace(self._start.qparams, scale=scale.detach())
        levels = Levels.of(qparams, v.ndim, relu=self._start.relu)
        c: Tensor = _Clip.apply(  # type: ignore[no-untyped-call]
            v, scale * self._levels_to_alpha, levels, given
        )
        return c

    def observe(self, x: Tensor, step: Tensor | None = None) -> None:
        """Nothing: α is learned."""

    def initialize(self, x: Tensor) -> None:
        """Nothing: the calibrated range is the start."""

    def penalty(self) -> Tensor | None:
        """``decay/2 · α²``, whose gradient is weight decay's."""
        return 0.5 * self._decay * self.alpha.square()

    def qparams(self) -> QParams:
        """The scale that α gives."""
        alpha = self.alpha.detach().clamp(min=self._least)
        return replace(self._start.qparams, scale=self._start.usable(alpha / self._levels_to_alpha))


class _Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor, alpha: Tensor, levels: Levels, given: Tensor | None) -> Tensor:
        c = centred_levels(v, levels, given)
        ctx.save_for_backward(v, c, alpha)
        ctx.levels = levels
        return c

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        v, c, alpha = ctx.saved_tensors
        passed = inside(gradient, v, ctx.levels)
        # Where the gradient does not pass, y is α, the lower end, or a ReLU's 0: y/α is ∂y/∂α, and
        # ∂L/∂y · y is ∂L/∂c · c.
        return passed, (gradient - passed).mul_(c).sum() / alpha, None, None
