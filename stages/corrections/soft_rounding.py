"""The variable that decides whether a weight is rounded up or down (Nagel et al. 2020, arXiv 2004.10568).

For each weight w of scale s and zero point z a variable V decides between its two neighbouring levels,

    ``q(V) = clamp(floor(w/s) + h(V) + z)``,   ``h(V) = clamp(1.2·sigmoid(V) − 0.1, 0, 1)``   (eq. 23, 24),

and a term of the loss, ``mean(1 − |2h(V) − 1|^β)`` (eq. 25, whose sum is a mean here, so that one factor
suits layers of any size), draws every h to 0 or 1 as β falls. A weight of exactly 0 stays 0: what was pruned
remains so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from stages.quant.qparams import QParams

ZETA, GAMMA = 1.1, -0.1
"""The rectified sigmoid's stretch: it reaches 0 and 1 at finite V."""

BETA = (20.0, 2.0)
"""Exponent of the regularizer, from the end of the warm-up to the last iteration."""


def beta(iteration: int, iterations: int, warm_up: float) -> float | None:
    """The regularizer's exponent, falling along a cosine; None in the warm-up, a share of all iterations."""
    begin = warm_up * iterations
    if iteration < begin:
        return None
    progress = (iteration - begin) / (iterations - begin)
    return BETA[1] + (BETA[0] - BETA[1]) * 0.5 * (1.0 + math.cos(math.pi * progress))


def regularizer(h: Tensor, beta: float) -> Tensor:
    """``mean(1 − |2h − 1|^β)``, shape ()."""
    return (1.0 - (2.0 * h - 1.0).abs().pow(beta)).mean()


def check_descent(settings: object, *, shares: Mapping[str, str]) -> None:
    """Refuse numbers that no descent of the rounding's variable works with.

    Args:
        settings: has ``iterations``, ``batch_size``, ``learning_rate`` and ``regularization``, and `shares`.
        shares: those that lie in [0, 1), and what they are: ``a share of the iterations``.

    Raises:
        ValueError: names the first of them that is out of bounds.
    """
    for name in ("iterations", "batch_size"):
        if getattr(settings, name) < 1:
            raise ValueError(f"{name}={getattr(settings, name)}: must be at least 1")
    for name in ("learning_rate", "regularization"):
        if not getattr(settings, name) > 0.0:
            raise ValueError(f"{name}={getattr(settings, name)}: must be positive")
    for name, share in shares.items():
        if not 0.0 <= getattr(settings, name) < 1.0:
            raise ValueError(f"{name}={getattr(settings, name)}: must be {share}, in [0, 1)")


class SoftRounding:
    """The rounding of one weight, between its two neighbouring levels; it begins at the weight itself.

    Args:
        weight: float32 (O, …).
        qparams: its grid.
    """

    def __init__(self, weight: Tensor, qparams: QParams) -> None:
        self._qparams = qparams
        self._scale, self._zero_point = qparams.broadcast(weight.ndim)
        self._floor = torch.floor(weight / self._scale)
        rest = weight / self._scale - self._floor
        self.v = torch.logit((rest - GAMMA) / (ZETA - GAMMA)).requires_grad_()
        self._zeros = weight == 0.0

    def h(self) -> Tensor:
        """How far each weight is rounded up, in [0, 1]; 0 where the weight is 0."""
        h = (torch.sigmoid(self.v) * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)
        return h.masked_fill(self._zeros, 0.0)

    def weight(self, h: Tensor) -> Tensor:
        """The real weight for `h`, differentiable, of the weight's shape."""
        return (self._clamped(h) - self._zero_point) * self._scale

    @torch.no_grad()
    def levels(self) -> Tensor:
        """The levels decided for, in the grid's dtype, of the weight's shape."""
        return self._clamped((self.h() >= 0.5).to(self._floor.dtype)).to(self._qparams.dtype)

    def _clamped(self, up: Tensor) -> Tensor:
        return (self._floor + up + self._zero_point).clamp(self._qparams.quant_min, self._qparams.quant_max)
