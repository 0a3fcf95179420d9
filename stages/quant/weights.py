"""Scales of weights, and biases as integers: one rule, shared by simulation and lowering.

A bias is added to the accumulator, so it is held in its steps: ``q_b = round(b / (s_x · s_w))``, int32. For
it to fit, with room for the sum it is added to, ``|q_b| ≤ 2^30``; and a channel whose weights are all zero is
nothing but its bias. Hence, after the quantizer has chosen the weight's scale:

1. where all weights that share a scale round to zero, ``s_w = max|b| / (s_x · 2^17)``, 16 bits for the bias;
   or more, where weights would no longer be zero on so fine a scale: below ``2·max|w|`` or what was chosen;
2. everywhere, ``s_w ≥ max|b| / (s_x · 2^30)``. This raises the scale of channels that folding BatchNorm
   left almost zero, whose rounded weights then count for little beside the bias, as they did before.

The grid still covers the range, and the zero point stays. A scale that a rule sets is the next power of two,
so that the rules hold for grids whose scales are powers of two as for any other.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from stages.quant.calibrators.base import Calibrator, Grid
from stages.quant.granularity.base import Granularity
from stages.quant.qparams import QParams, fake_quantize, per_channel
from stages.quant.quantizers.base import ChoosesLevels, Quantizer, next_power_of_two, usable
from stages.quant.statistics import Statistics

MOST_SLOTS = 32
"""Scales calibrated at a time; each takes 0.5 MB of statistics where values are counted, 2 MB in a search."""

MAX_BIAS = 2**30
ZERO_CHANNEL_BIAS = 2**17


def weight_qparams(
    weight: Tensor,
    bias: Tensor | None,
    input_scale: Tensor | None,
    quantizer: Quantizer,
    calibrator: Calibrator,
    granularity: Granularity,
) -> QParams:
    """The grid of a layer's weight.

    Args:
        weight: float32 (O, …), BatchNorm folded.
        bias: float32 (O,), or None.
        input_scale: float32 (), the scale of the layer's input; None where that is float, and so is the bias.
        quantizer: the scheme of weights.
        calibrator: reduces the weight's values to ranges.
        granularity: which of the weight's values share a scale.

    Raises:
        ValueError: weight or bias holds NaN or infinity.
    """
    if bias is not None and not bool(torch.isfinite(bias).all()):
        raise ValueError("the bias contains NaN or infinity. Remedy: check the float network's parameters")
    observations = granularity.to_observations(weight)
    grid = partial(quantizer.qparams, ch_axis=granularity.ch_axis(weight.ndim))
    qparams = grid(*_range(observations, calibrator, grid))
    if observations.ndim == 4:
        qparams = replace(qparams, group_size=observations.shape[3])
    return qparams if input_scale is None else fit_bias(qparams, weight, bias, input_scale)


def _range(observations: Tensor, calibrator: Calibrator, grid: Grid) -> tuple[Tensor, Tensor]:
    """The calibrated range, of so many output channels at a time that memory stays small."""
    if observations.ndim == 2:
        return calibrator.range(_statistics(observations, calibrator), grid)
    slots = math.prod(observations.shape[2:-1])
    size = max(1, MOST_SLOTS // slots)
    parts = [observations[:, i : i + size] for i in range(0, observations.shape[1], size)]
    low, high = zip(*(calibrator.range(_statistics(part, calibrator), grid) for part in parts), strict=True)
    return torch.cat(low), torch.cat(high)


def _statistics(observations: Tensor, calibrator: Calibrator) -> Statistics:
    statistics = Statistics(histogram=calibrator.reads_histogram)
    statistics.update(observations)
    return statistics


def fit_bias(qparams: QParams, weight: Tensor, bias: Tensor | None, input_scale: Tensor) -> QParams:
    """The grid of a layer's weight, its scale changed where the bias needs it: rules 1 and 2 above."""
    if bias is None:
        return qparams
    if qparams.group_size is not None:  # the first group's accumulator takes the bias
        first = replace(
            qparams, scale=qparams.scale[:, 0], zero_point=qparams.zero_point[:, 0], group_size=None
        )
        fitted = fit_bias(first, weight[:, : qparams.group_size], bias, input_scale).scale
        return replace(qparams, scale=torch.cat([fitted[:, None], qparams.scale[:, 1:]], dim=1))
    magnitude = bias.detach().abs().double()
    steps = (magnitude if qparams.scale.ndim else magnitude.amax()) / input_scale.double()
    zero = _largest(fake_quantize(weight.detach(), qparams), qparams) == 0.0
    # weights of half a step and less round to zero
    staying_zero = next_power_of_two(2.0 * _largest(weight.detach(), qparams).double())
    finest = torch.maximum(
        torch.minimum(staying_zero, qparams.scale), next_power_of_two(steps / ZERO_CHANNEL_BIAS)
    )
    scale = torch.where(zero, usable(finest), qparams.scale)
    least = next_power_of_two(steps / MAX_BIAS).float()
    return replace(qparams, scale=torch.where(steps / MAX_BIAS > scale, least, scale))


def _largest(weight: Tensor, qparams: QParams) -> Tensor:
    """The largest magnitude of values that share a scale, of the scale's shape."""
    return per_channel(weight.abs(), qparams.ch_axis).amax(dim=1).reshape_as(qparams.scale)


def weight_levels(quantizer: Quantizer, weight: Tensor, qparams: QParams, name: str) -> Tensor | None:
    """The levels that the quantizer chooses for a layer's weight; None where they are the nearest."""
    if isinstance(quantizer, ChoosesLevels):
        return quantizer.levels(weight.detach(), qparams, name)
    return None


def quantize_bias(bias: Tensor, input_scale: Tensor, weight_scale: Tensor) -> Tensor:
    """A bias (O,) in steps of ``input_scale · weight_scale``, int32 (O,), rounded half to even.

    Raises:
        ValueError: a bias beyond 2^30 steps: the weight's scale is not one that `weight_qparams` chose.
    """
    q = torch.round(bias.detach().double() / _step(input_scale, weight_scale))
    if not bool((q.abs() <= MAX_BIAS).all()):
        raise ValueError(
            f"the bias reaches {float(q.abs().max()):.4g} steps of input scale × weight scale: must be "
            "at most 2^30, for the int32 accumulator. Remedy: take the weight's scale from weight_qparams"
        )
    return q.to(torch.int32)


def dequantize_bias(q: Tensor, input_scale: Tensor, weight_scale: Tensor) -> Tensor:
    """The real values, float32 (O,), that an integer bias stands for."""
    return (q.double() * _step(input_scale, weight_scale)).float()


def _step(input_scale: Tensor, weight_scale: Tensor) -> Tensor:
    """The accumulator's step, in float64: the product of two small scales is subnormal in float32."""
    return input_scale.double() * weight_scale.double()
