"""A layer in quantization-aware training, its BatchNorm beside it.

In every step the weight is folded, rounded as it will be deployed, and used:

    ``w_q = fake_quantize(w · g)``,  ``g = γ / σ`` with the moving σ.

With batch statistics (Krishnamoorthi 2018, section 3.2.2), the convolution's output has to be corrected by
``σ / σ_batch`` and shifted by the batch's mean:

    ``y = (σ / σ_batch) · conv(x, w_q) + β − γ μ_batch / σ_batch = BatchNorm(conv(x, w_q / g))``.

The right-hand side is what is computed: undoing the scale on the small weight instead of the large output
leaves a plain convolution and a plain BatchNorm over it, at the cost of the float network's. Rounding sees
weights on the slowly moving scale at all times, as it will after training. With moving statistics (frozen,
or in evaluation mode), the layer is ``conv(x, w_q) + b_q``, its bias rounded to int32 steps of ``s_x · s_w``.

Where each channel has a scale of its own, that scale moves with the channel's gain, ``s_w = s · |g|``: what
is learned or observed is s, of the weight before folding, as the papers on low bits have it (Esser et al.
2020). Rounding ``w · g`` to steps of ``s · |g|`` is rounding w to steps of s, so that neither a moving σ
changes a level nor γ, while it keeps its sign. On a scale of the folded weight both do, which costs accuracy
at 2 bits.

``naive`` folding rounds ``w · γ / σ_batch``, whose scale jitters from batch to batch, and needs a second
convolution to learn σ_batch; it is there for comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.graph.fold import folded_layer, gain_of
from stages.graph.ir import Node
from stages.graph.operators.layers import exact_sums, linear_map
from stages.quant.estimators.base import Estimator, FakeQuantizer, Start
from stages.quant.estimators.shared import SharedWeights
from stages.quant.qparams import QParams
from stages.quant.quantizers.base import SharesLevels
from stages.quant.weights import fit_bias, quantize_bias

BatchNorm = Literal["corrected", "naive", "frozen"]

Dither = Callable[[Tensor, Tensor, int], Tensor]
"""(x, scale, number of the draw) → x with noise; see `stages.quant.quantizers.base.Dithers`."""

Nearest = Callable[[Tensor], Tensor]
"""Reals in steps → centred levels; see `stages.quant.quantizers.base.Uneven`."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What a training step does.

    Args:
        quantize: round weights, activations and biases; False trains in float.
        observe: let observed ranges follow the data.
        batch_statistics: normalize by the batch, and let the moving statistics follow; False uses those.
        draw: of the noise of quantizers that round by chance, counted from 1; 0 for the draw that is kept.
    """

    quantize: bool = True
    observe: bool = False
    batch_statistics: bool = False
    draw: int = 0


@dataclass(frozen=True, kw_only=True)
class Grids:
    """What a layer needs to know of the values around it.

    Args:
        input_scale: float32 (), detached.
        input_levels: the least and the greatest centred level of the input.
        output_scale: float32 (), detached.
    """

    input_scale: Tensor
    input_levels: tuple[int, int]
    output_scale: Tensor


class QatLayer(nn.Module):
    """A conv2d or linear node with its parameters, by role.

    Args:
        node: the layer, BatchNorm attached where it has one (`stages.graph.fold.attach_batch_norm`).
        params: of its graph: a `torch.nn.Parameter` is registered as such, another tensor as a buffer.
        estimator: makes the quantizer of the weight.
        start: where that begins, on the folded weight; None keeps the layer float.
        dither: adds the noise of rounding by chance, (x, scale, draw) to x's shape; None rounds to nearest.
        batch_norm: how phases with batch statistics fold.
        shares: where the levels that the weight shares start; None for levels of an even grid.
        nearest: the nearest of the levels in use; None where that is every level of the grid.
    """

    def __init__(
        self,
        node: Node,
        params: Mapping[str, Tensor],
        estimator: Estimator,
        start: Start | None,
        dither: Dither | None,
        batch_norm: BatchNorm,
        shares: SharesLevels | None = None,
        nearest: Nearest | None = None,
    ) -> None:
        super().__init__()
        self.node = node
        self._dither = dither
        self._nearest = nearest
        self._naive = batch_norm == "naive"
        for role, key in node.params.items():
            tensor = params[key]
            if isinstance(tensor, nn.Parameter):
                self.register_parameter(role, tensor)
            else:
                self.register_buffer(role, tensor)
        if "bn_mean" in node.params:
            self.register_buffer("bn_batches", params[batches_key(node)])
        self._scales_follow = start is not None and not self._naive and _may_follow(node, start)
        if start is not None and self._scales_follow:
            start = replace(
                start, qparams=replace(start.qparams, scale=start.qparams.scale / self._magnitude())
            )
        self._start = start
        self.quantizer: FakeQuantizer | None = None
        self._shares = shares is not None
        if start is not None and shares is not None:
            with torch.no_grad():
                self.quantizer = SharedWeights(start, shares.centroids(self._seen(), start.qparams))
        elif start is not None:
            self.quantizer = estimator.weight(start)

    def share_quantizer(self, others: Iterable[QatLayer]) -> None:
        """Take the quantizer of a layer with the very same weight, if both start from the same grid."""
        for other in others:
            if self._rounds_like(other):
                self.quantizer = other.quantizer
                return

    def _rounds_like(self, other: QatLayer) -> bool:
        if self._start is None or other._start is None:
            return False
        roles = ("weight", "bn_weight", "bn_var")
        if [self.node.params.get(role) for role in roles] != [other.node.params.get(role) for role in roles]:
            return False
        return _same_grid(self._start.qparams, other._start.qparams)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and moving statistics under their keys in the graph."""
        return {key: getattr(self, role) for role, key in self.node.params.items()}

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as float, BatchNorm folded by the moving statistics; differentiable."""
        tensors = self.tensors()
        if "bn_mean" in self.node.params:
            return folded_layer(self.node, tensors, gain_of(self.node, tensors))
        return self._role("weight"), self._role("bias")

    def qparams(self) -> QParams:
        """What the folded weight is rounded by at present, detached; a float layer has none."""
        assert self.quantizer is not None
        own = self.quantizer.qparams()
        return replace(own, scale=own.scale * self._magnitude()) if self._scales_follow else own

    @torch.no_grad()
    def shared_levels(self, qparams: QParams) -> Tensor | None:
        """The levels that a codebook has chosen, int8, the weight's shape; None without one.

        Args:
            qparams: the folded weight's grid, `fit_bias` applied.
        """
        if not self._shares:
            return None
        weight = self._rounded_folded(self.folded()[0], Phase())
        return self._whole(weight, weight, qparams, Phase()).to(qparams.dtype)

    @torch.no_grad()
    def initialize(self) -> None:
        """Let the estimator choose the weight's starting range."""
        if self.quantizer is not None:
            self.quantizer.initialize(self._seen())

    def forward(self, x: Tensor, phase: Phase, grids: Grids) -> Tensor:
        """The layer's value before residual and clamp.

        Args:
            x: float32 (N, …): centred levels where the phase rounds, else reals.
            phase: what to do.
            grids: of its input and output.

        Returns:
            float32: in steps of the output where the phase rounds, else reals.
        """
        if not phase.quantize:
            return self._unrounded(x, phase)
        if not (phase.batch_statistics and "bn_mean" in self.node.params):
            return self._deployed(x, phase, grids, *self.folded())
        if self._naive:
            return self._naively_folded(x, phase, grids)
        return self._corrected(x, phase, grids)

    def _unrounded(self, x: Tensor, phase: Phase) -> Tensor:
        if phase.observe and self.quantizer is not None:
            self.quantizer.observe(self._seen())
        if not (phase.batch_statistics and "bn_mean" in self.node.params):
            return linear_map(self.node.attrs, x, *self.folded())
        y = linear_map(self.node.attrs, x, self._role("weight"), self._role("bias"))
        return self._batch_norm(y, self._role("bn_weight"), self._role("bn_bias"))

    def _corrected(self, c: Tensor, phase: Phase, grids: Grids) -> Tensor:
        weight = self._rounded_unfolded(phase) * grids.input_scale
        y = linear_map(self.node.attrs, c, weight, self._role("bias"))
        # γ and β in steps of the output: BatchNorm's last pass over memory then divides by the scale as well
        gamma, beta = (self._role(role) for role in ("bn_weight", "bn_bias"))
        ones = torch.ones_like(self._role("bn_var"))
        per_step = (ones if gamma is None else gamma) / grids.output_scale
        return self._batch_norm(y, per_step, None if beta is None else beta / grids.output_scale)

    def _batch_norm(self, y: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
        return F.batch_norm(
            y,
            self._role("bn_mean"),
            self._role("bn_var"),
            gamma,
            beta,
            training=True,
            momentum=self._momentum(),
            eps=self.node.attrs["bn_eps"],
        )

    def _naively_folded(self, c: Tensor, phase: Phase, grids: Grids) -> Tensor:
        y = linear_map(self.node.attrs, c, self._role("weight") * grids.input_scale, self._role("bias"))
        variance, mean = torch.var_mean(y, dim=[dim for dim in range(y.ndim) if dim != 1], correction=0)
        count = y.numel() // y.shape[1]
        momentum = self._momentum()
        with torch.no_grad():
            self._role("bn_mean").lerp_(mean, momentum)
            self._role("bn_var").lerp_(variance * (count / (count - 1)), momentum)
        tensors = self.tensors()
        folded = folded_layer(self.node, tensors, gain_of(self.node, tensors, variance), mean)
        return self._deployed(c, phase, grids, *folded)

    def _momentum(self) -> float:
        """The share of this batch's statistics in the moving ones, as the module says."""
        momentum: float | None = self.node.attrs["bn_momentum"]
        if momentum is None:  # the mean of all batches
            self._role("bn_batches").add_(1)
            return 1.0 / float(self._role("bn_batches"))
        return momentum

    def _deployed(self, c: Tensor, phase: Phase, grids: Grids, weight: Tensor, bias: Tensor | None) -> Tensor:
        """``Σ c_x c_w + b`` on whole numbers, times the program's own ratio of scales."""
        learned = self._rounded_folded(weight, phase)
        if self.quantizer is None:
            return linear_map(self.node.attrs, c, learned * grids.input_scale, bias) / grids.output_scale
        qparams = fit_bias(self.qparams(), weight, bias, grids.input_scale)
        scale = qparams.broadcast(weight.ndim)[0]
        whole = self._whole(weight, learned, qparams, phase)
        integer_bias = None
        if bias is not None:
            steps = quantize_bias(bias, grids.input_scale, qparams.scale)
            step = grids.input_scale.double() * qparams.scale.double()
            integer_bias = _value_of(steps.double(), bias.double() / step)
        sums = exact_sums(
            self.node.attrs, c, _value_of(whole, learned / scale), integer_bias, grids.input_levels
        )
        ratio = grids.input_scale.double() * qparams.scale.double() / grids.output_scale.double()
        by_channel = ratio.float() if ratio.ndim == 0 else ratio.float().reshape(-1, *[1] * (weight.ndim - 2))
        return sums.float().mul_(by_channel)

    def _whole(self, weight: Tensor, learned: Tensor, qparams: QParams, phase: Phase) -> Tensor:
        """The centred levels of the folded weight, whole numbers: the nearest, or those of its codebook."""
        scale, zero_point = qparams.broadcast(weight.ndim)
        real = learned.detach() if self._shares else self._dithered(weight.detach(), qparams, phase)
        if self._nearest is not None:
            return self._nearest(real / scale)
        whole = torch.round(real / scale).add_(zero_point)
        return whole.clamp_(qparams.quant_min, qparams.quant_max).sub_(zero_point)

    def _rounded_unfolded(self, phase: Phase) -> Tensor:
        """``w_q / g``: the weight before folding, rounded to the levels that it will have after."""
        rounded = self._rounded(self._seen(), phase)
        if self._scales_follow:
            return self._by_channel(self._sign()) * rounded
        gain = self._by_channel(self._gain())
        # where the gain is 0, the folded weights are, and stay so
        return rounded / torch.where(gain == 0.0, 1.0, gain)

    def _rounded_folded(self, weight: Tensor, phase: Phase) -> Tensor:
        """``w_q`` of the folded `weight`; where scales follow, ``g · (w_q / g)``, which may round apart."""
        if not self._scales_follow:
            return self._rounded(weight, phase)
        return self._rounded_unfolded(phase) * self._by_channel(self._gain())

    def _rounded(self, weight: Tensor, phase: Phase) -> Tensor:
        if self.quantizer is None:
            return weight
        if phase.observe:
            self.quantizer.observe(weight)
        own = self.quantizer.qparams()
        dithered = self._dithered(weight, own, phase)
        if self._nearest is None:
            rounded: Tensor = self.quantizer(dithered)
            return rounded
        scale = own.broadcast(weight.ndim)[0]
        v = dithered / scale
        return self.quantizer.levels(v, self._nearest(v.detach())) * scale

    def _dithered(self, weight: Tensor, qparams: QParams, phase: Phase) -> Tensor:
        if self._dither is None:
            return weight
        return self._dither(weight, qparams.broadcast(weight.ndim)[0], phase.draw)

    def _seen(self) -> Tensor:
        """The weight as the quantizer sees it: with |g| in the scale, only the sign of g; else folded."""
        if not self._scales_follow:
            return self.folded()[0]
        weight: Tensor = self._role("weight")
        return self._by_channel(self._sign()) * weight

    def _gain(self) -> Tensor:
        """g, float32 (O,)."""
        return gain_of(self.node, self.tensors()).float()

    @torch.no_grad()
    def _magnitude(self) -> Tensor:
        """|g|, and 1 where that is 0, so that scales stay positive."""
        gain = self._gain().abs()
        return torch.where(gain == 0.0, 1.0, gain)

    @torch.no_grad()
    def _sign(self) -> Tensor:
        """-1.0 where g, which has γ's sign, is negative, else 1.0: a grid need not be symmetric."""
        gamma = self._role("bn_weight")
        return torch.ones_like(self._role("bn_var")) if gamma is None else torch.where(gamma < 0.0, -1.0, 1.0)

    def _by_channel(self, values: Tensor) -> Tensor:
        """(O,) in a shape that broadcasts against the weight."""
        return values.reshape(-1, *[1] * (self._role("weight").ndim - 1))

    def _role(self, role: str) -> Any:
        """A parameter or moving statistic; None where the layer has none."""
        return getattr(self, role, None)


def _value_of(value: Tensor, gradient: Tensor) -> Tensor:
    """A tensor with the value of one and the gradient of another."""
    return value + (gradient - gradient.detach())


def _same_grid(a: QParams, b: QParams) -> bool:
    same = (a.quant_min, a.quant_max, a.ch_axis) == (b.quant_min, b.quant_max, b.ch_axis)
    return same and torch.equal(a.scale, b.scale) and torch.equal(a.zero_point, b.zero_point)


def batches_key(node: Node) -> str:
    """Where the number of batches that a BatchNorm's statistics are from is kept, int64 ()."""
    return f"{node.params['bn_mean']}:batches"


def _may_follow(node: Node, start: Start) -> bool:
    """Whether each channel has a scale, free to be any multiple of its BatchNorm's gain."""
    return "bn_mean" in node.params and start.qparams.ch_axis == 0 and start.snap is None
