"""What estimators share: the forward pass, which is the same for all, and their protocols.

A network in training holds values as the integer program does, as centred levels c, whole numbers in
float32::

    v = x / scale
    c = clamp(round_half_even(v) + zero_point, quant_min, quant_max) − zero_point,    y = scale · c

The forward pass maps v to c. Gradients travel in the same steps, ``∂L/∂c = scale · ∂L/∂y``, so that a rule
for
``∂y/∂x`` is one for ``∂c/∂v``. Rounding has no useful derivative; an estimator says what to use instead, and
where ranges come from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from stages.quant.qparams import QParams

Scheme = Callable[[Tensor, Tensor], QParams]
"""A quantizer's map from ranges (min, max) to quantization parameters of one tensor."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where the training of one tensor's quantization begins.

    Args:
        qparams: as calibrated.
        scheme: makes quantization parameters of the same levels and `ch_axis` for another range.
        relu: clamp at 0 as well: the lowest level becomes that of 0.0, which costs nothing.
        snap: from any scale to one that the quantizer can have, of the same shape; None where it can have
            any.
    """

    qparams: QParams
    scheme: Scheme
    relu: bool = False
    snap: Callable[[Tensor], Tensor] | None = None

    def usable(self, scale: Tensor) -> Tensor:
        """The scale itself, or the one that it snaps to; the gradient passes through, the value is exact."""
        if self.snap is None:
            return scale.clone()
        return self.snap(scale.detach()) + (scale - scale.detach())


class FakeQuantizer(Protocol):
    """A `torch.nn.Module` for one tensor; what it learns are its parameters."""

    def __call__(self, x: Tensor) -> Tensor:
        """Fake-quantize float32 `x`, reals to reals; the gradient is the estimator's."""

    def levels(self, v: Tensor, given: Tensor | None = None) -> Tensor:
        """Round `v`, reals in steps of the present scale, to centred levels; the gradient is the estimator's.

        Args:
            v: float32, any shape. The backward pass overwrites it.
            given: the levels, where an arithmetic that rounds otherwise has chosen them.
        """

    def observe(self, x: Tensor, step: Tensor | None = None) -> None:
        """Let the range follow `x`, in steps of `step` or in reals, where the estimator observes ranges."""

    def initialize(self, x: Tensor) -> None:
        """Choose the starting range from `x`, where the estimator has a rule of its own for it."""

    def penalty(self) -> Tensor | None:
        """A term of the loss, shape (); None for none."""

    def qparams(self) -> QParams:
        """What `x` is rounded by at present, detached."""


Extremes = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(min, max) of one rank's share of a batch → those of the whole batch."""


@runtime_checkable
class ObservesRange(Protocol):
    """A `FakeQuantizer` whose range follows what it observes of each batch."""

    shared: Extremes | None
    """How ranks that divide a batch learn its extremes; None where it is whole."""


@runtime_checkable
class Estimator(Protocol):
    """A component of the configuration group ``estimator``."""

    def weight(self, start: Start) -> FakeQuantizer:
        """For a layer's weight, BatchNorm folded in."""

    def activation(self, start: Start) -> FakeQuantizer:
        """For a value between layers."""


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Integer levels as the forward pass clamps them.

    Args:
        lowest: smallest level, after `offset` is added.
        highest: largest level, likewise.
        offset: zero points in a shape that broadcasts, where they differ between channels; else they are
            subtracted from `lowest` and `highest` instead, which saves two passes over memory.
    """

    lowest: float
    highest: float
    offset: Tensor | None = None

    @staticmethod
    def of(qparams: QParams, ndim: int, *, relu: bool = False) -> Levels:
        """The levels of a tensor of `ndim` dimensions."""
        if qparams.zero_point.numel() > 1 and bool(qparams.zero_point.any()):
            offset = qparams.broadcast(ndim)[1].float()
            return Levels(lowest=float(qparams.quant_min), highest=float(qparams.quant_max), offset=offset)
        zero_point = int(qparams.zero_point.max())
        lowest = qparams.quant_min - zero_point
        return Levels(
            lowest=float(max(lowest, 0) if relu else lowest), highest=float(qparams.quant_max - zero_point)
        )


def centred_levels(v: Tensor, levels: Levels, given: Tensor | None) -> Tensor:
    """The centred levels of `v`, of its shape; a copy of those that are given, if any."""
    if given is not None:
        return given.clone()
    c = torch.round(v)
    if levels.offset is None:
        return c.clamp_(levels.lowest, levels.highest)
    return c.add_(levels.offset).clamp_(levels.lowest, levels.highest).sub_(levels.offset)


def fake_quantized(quantizer: FakeQuantizer, x: Tensor) -> Tensor:
    """Reals to reals: ``scale · levels(x / scale)``."""
    scale = quantizer.qparams().broadcast(x.ndim)[0].detach()
    return quantizer.levels(x / scale) * scale


def inside(
    gradient: Tensor, v: Tensor, levels: Levels, slack: float = 0.0, *, in_place: bool = False
) -> Tensor:
    """The gradient where ``lowest < v + offset < highest``, else 0; in one pass.

    `slack` moves both ends outwards by that share, so that values at the ends count as inside; `in_place`
    overwrites `gradient`.
    """
    if levels.offset is not None:
        v = v + levels.offset
    wider = 1.0 + slack
    # In v's layout: a pool or a pad may give gradients in another, in which convolution and BatchNorm of all
    # layers before would then be computed, at half the speed.
    passed = gradient if in_place else torch.empty_like(v)
    torch.ops.aten.hardtanh_backward.grad_input(
        gradient, v, levels.lowest * wider, levels.highest * wider, grad_input=passed
    )
    return passed


def representable(qparams: QParams) -> tuple[Tensor, Tensor]:
    """The smallest and the largest real value of the grid, each of the scale's shape."""
    low = (qparams.quant_min - qparams.zero_point) * qparams.scale
    return low, (qparams.quant_max - qparams.zero_point) * qparams.scale
