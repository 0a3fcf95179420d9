"""AdaRound: rounding weights up or down by what it does to the layer's output.

Nagel et al. 2020, arXiv 2004.10568. The variables V of `stages.corrections.soft_rounding` minimize by Adam,
over positions drawn from the calibration samples (eq. 21, 25),

    ``E‖f(Wx) − f(W̃x̃)‖² / e₀ + λ · mean(1 − |2h(V) − 1|^β)``:

f the activation function, x the input in the float network, x̃ that in the simulation, whose earlier layers
are rounded already, and e₀ the first term's value at nearest rounding. Dividing by it lets one λ suit layers
of any scale, and is this implementation's. β falls from 20 to 2 after a warm-up without regularizer, so that
every h ends at 0 or 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from stages.corrections.patches import Patches
from stages.corrections.soft_rounding import SoftRounding, beta, check_descent, regularizer
from stages.quant.qparams import QParams, dequantize, quantize

Activation = Callable[[Tensor], Tensor]


class Rounded(NamedTuple):
    """Levels, the weight's shape, and squared errors of the output by channel, float64 (O,)."""

    levels: Tensor
    error: Tensor
    nearest_error: Tensor


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """How to look for a layer's levels.

    Args:
        iterations: steps of Adam.
        batch_size: positions a step.
        learning_rate: of V.
        regularization: λ.
        warm_up: share of the iterations, in [0, 1), before the regularizer sets in.
    """

    iterations: int = 1000
    batch_size: int = 1024
    learning_rate: float = 0.1
    regularization: float = 3.0
    warm_up: float = 0.2

    def __post_init__(self) -> None:
        check_descent(self, shares={"warm_up": "a share of the iterations"})

    def beta(self, iteration: int) -> float | None:
        """The regularizer's exponent, falling along a cosine; None in the warm-up."""
        return beta(iteration, self.iterations, self.warm_up)

    def round(
        self, weight: Tensor, bias: Tensor | None, qparams: QParams, patches: Patches, activation: Activation
    ) -> Rounded:
        """Choose a layer's levels.

        A channel's levels are those found, or the nearest where they do better on all of `patches`: the
        error never grows.

        Args:
            weight: float32 (O, …).
            bias: float32 (O,), as the simulation adds it; None where there is none.
            qparams: the weight's grid.
            patches: inputs and targets.
            activation: f, element by element.
        """
        layer = _Layer(bias, patches, activation)
        soft = SoftRounding(weight, qparams)
        nearest = quantize(weight, qparams)
        nearest_error = layer.error(dequantize(nearest, qparams))
        e0 = max(float(nearest_error.sum()) / len(patches), 1e-30)

        optimizer = torch.optim.Adam([soft.v], lr=self.learning_rate)
        batch = min(self.batch_size, len(patches))

        for iteration in range(self.iterations):
            start = iteration % (len(patches) // batch) * batch
            h = soft.h()
            loss = layer.squared_error(soft.weight(h), slice(start, start + batch)).sum() / (batch * e0)
            exponent = self.beta(iteration)
            if exponent is not None:
                loss = loss + self.regularization * regularizer(h, exponent)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        found = soft.levels()
        error = layer.error(dequantize(found, qparams))
        better = error < nearest_error
        levels = torch.where(_over_channels(better, weight.ndim), found, nearest)
        return Rounded(levels, torch.where(better, error, nearest_error), nearest_error)


class _Layer:
    """The layer over the drawn positions, as a function of its weight (O, …)."""

    def __init__(self, bias: Tensor | None, patches: Patches, activation: Activation) -> None:
        groups, _, outputs = patches.target.shape
        self._bias = None if bias is None else bias.reshape(groups, 1, outputs)
        self._patches = patches
        self._activation = activation

    def squared_error(self, weight: Tensor, rows: slice) -> Tensor:
        """``(f(Wx) − f(W̃x̃))²``, (groups, rows, O/groups)."""
        patches = self._patches
        groups, _, outputs = patches.target.shape
        y = torch.bmm(patches.x[:, rows], weight.reshape(groups, outputs, -1).transpose(1, 2))
        if self._bias is not None:
            y = y + self._bias
        if patches.residual is not None:
            y = y + patches.residual[:, rows]
        return (self._activation(y) - patches.target[:, rows]).square()

    def error(self, weight: Tensor) -> Tensor:
        """The squared error by channel, summed over all positions, float64 (O,)."""
        total = torch.zeros(weight.shape[0], dtype=torch.float64)
        with torch.no_grad():
            for start in range(0, len(self._patches), 4096):
                squared = self.squared_error(weight, slice(start, start + 4096))
                total += squared.sum(dim=1, dtype=torch.float64).flatten()
        return total


def _over_channels(x: Tensor, ndim: int) -> Tensor:
    return x.reshape(-1, *[1] * (ndim - 1))
