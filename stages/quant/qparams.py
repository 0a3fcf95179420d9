"""Quantization parameters, and the two maps they define.

``q = clamp(round_half_even(x / scale) + zero_point, quant_min, quant_max)`` and
``real = scale * (q - zero_point)``. Real zero is always exactly representable: it is `zero_point`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class QParams:
    """Scale and zero point of one tensor, and its integer levels.

    Args:
        scale: float32, > 0, shape ``()`` for per tensor, ``(C,)`` for per channel. The step between
            two neighbouring levels, in real units.
        zero_point: int32, the shape of `scale`, within the levels: the integer that stands for 0.0.
        quant_min: smallest level.
        quant_max: largest level. Levels lie in int8 where ``quant_min < 0``, else in uint8.
        ch_axis: the dimension that `scale` runs along; None for per tensor.
        group_size: input channels that share a scale, which has shape ``(O, G)`` then, G groups along
            dimension 1; None for one scale an output channel.
    """

    scale: Tensor
    zero_point: Tensor
    quant_min: int
    quant_max: int
    ch_axis: int | None = None
    group_size: int | None = None

    @property
    def bias_scale(self) -> Tensor:
        """The weight scale that a bias, of this weight's layer, is in steps of: () or (O,)."""
        return self.scale if self.group_size is None else self.scale[:, 0]

    @property
    def dtype(self) -> torch.dtype:
        """The narrowest torch dtype that holds the levels; int32 for numbers of tokens."""
        if self.quant_max > 255:
            return torch.int32
        return torch.int8 if self.quant_min < 0 else torch.uint8

    def broadcast(self, ndim: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point in a shape that broadcasts against a tensor of `ndim` dimensions."""
        if self.ch_axis is None:
            return self.scale, self.zero_point
        if self.group_size is not None:
            shape = [len(self.scale), -1] + [1] * (ndim - 2)
            by_channel = (t.repeat_interleave(self.group_size, dim=1) for t in (self.scale, self.zero_point))
            scale, zero_point = (t.reshape(shape) for t in by_channel)
            return scale, zero_point
        shape = [1] * ndim
        shape[self.ch_axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


def per_channel(x: Tensor, ch_axis: int | None) -> Tensor:
    """(1, numel) for None, else (C, numel / C): one row a scale, its values in any order."""
    return in_memory_order(x).reshape(1, -1) if ch_axis is None else x.movedim(ch_axis, 0).flatten(1)


def in_memory_order(x: Tensor) -> Tensor:
    """The same values as a contiguous view where `x` is channels-last, which reductions would copy."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1)
    return x


def quantize(x: Tensor, qparams: QParams) -> Tensor:
    """Real values to levels: float `x` of any shape to the levels' dtype, same shape."""
    scale, zero_point = qparams.broadcast(x.ndim)
    q = torch.round(x / scale).add_(zero_point)
    return q.clamp_(qparams.quant_min, qparams.quant_max).to(qparams.dtype)


def dequantize(q: Tensor, qparams: QParams) -> Tensor:
    """Levels to the real values they stand for, float32, same shape."""
    scale, zero_point = qparams.broadcast(q.ndim)
    return (q.to(torch.float32) - zero_point) * scale


def fake_quantize(x: Tensor, qparams: QParams) -> Tensor:
    """The real values that `x` becomes: ``dequantize(quantize(x))`` without leaving float32."""
    scale, zero_point = qparams.broadcast(x.ndim)
    q = torch.round(x / scale).add_(zero_point).clamp_(qparams.quant_min, qparams.quant_max)
    return q.sub_(zero_point).mul_(scale)
