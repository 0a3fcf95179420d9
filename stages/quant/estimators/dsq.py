"""Differentiable soft quantization (Gong et al. 2019, arXiv 1908.05033, eq. 3–8).

Between two levels the staircase is replaced by a scaled tanh around their midpoint. With v = x/Δ and
t = v − floor(v) − ½, distance from the midpoint in steps::

    Q(x) = Δ · (floor(v) + ½ + tanh(κ t) / (2 tanh(κ/2)))      within the range, clamped outside
    ∂Q/∂x = κ / (2 tanh(κ/2)) · (1 − tanh²(κ t))               within the range, 0 outside
    α = 1 − tanh(κ/2)  ⇔  κ = ln(2/α − 1)                      (κ is the paper's kΔ)

α in (0, 1) is the distance of Q from the levels just beside them: near 0 a staircase, near 1 a straight
line (the straight-through estimator). The forward pass rounds, as the paper's sign function does after tanh;
the backward pass is Q's. The step Δ, and with it both ends of the range, is learned by the chain rule as in
`stages.quant.estimators.lsq`: ``∂y/∂Δ = y/Δ − v · ∂Q/∂x``. The paper learns α as well; here it is a setting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.quant.estimators.base import FakeQuantizer, Levels, Start, inside
from stages.quant.estimators.lsq import Initial, LearnedStep


@dataclass(frozen=True, kw_only=True)
class Dsq:
    """Soft gradients, learned ranges.

    Args:
        alpha: α above, in (0, 1).
        initial: where scales start, see `stages.quant.estimators.lsq.Lsq`.
    """

    alpha: float = 0.4
    initial: Initial = "calibrated"

    def __post_init__(self) -> None:
        if not 0.0 < self.alpha < 1.0:
            raise ValueError(
                f"alpha={self.alpha}: must lie between 0 (staircase, no gradient) and 1 (straight line)"
            )

    def weight(self, start: Start) -> FakeQuantizer:
        """One step a scale of the granularity."""
        return LearnedStep(start, self.initial, self.soft, samples=False)

    def activation(self, start: Start) -> FakeQuantizer:
        """One step."""
        return LearnedStep(start, self.initial, self.soft, samples=True)

    def soft(self, gradient: Tensor, v: Tensor, levels: Levels) -> Tensor:
        """``∂L/∂y · ∂Q/∂x``, of v's shape."""
        kappa = math.log(2.0 / self.alpha - 1.0)
        # 1 − tanh²(κt) = 4 σ(2κt) (1 − σ(2κt)), and σ is cheaper than tanh; it is even in t, so that
        # ½ − |frac(v)| does for negative v too
        t = torch.frac(v)
        if levels.offset is not None or levels.lowest < 0.0:  # else negative v are outside
            t.abs_()
        sigmoid = torch.sub(v.new_tensor(kappa), t, alpha=2.0 * kappa, out=t).sigmoid_()
        slope = 2.0 * kappa / math.tanh(kappa / 2.0)
        torch.ops.aten.sigmoid_backward.grad_input(gradient, sigmoid, grad_input=sigmoid)
        return inside(sigmoid.mul_(slope), v, levels, in_place=True)
