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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.graph.execute import linear_map
from stages.graph.fold import folded_layer, gain_of
from stages.graph.ir import Node
from stages.quant.estimators.base import Estimator, FakeQuantizer, Start
from stages.quant.qparams import QParams, fake_quantize
from stages.quant.weights import dequantize_bias, fit_bias, quantize_bias

BatchNorm = Literal["corrected", "naive", "frozen"]

Dither = Callable[[Tensor, Tensor, int], Tensor]
"""(x, scale, number of the draw) → x with noise; see `stages.quant.quantizers.base.Dithers`."""


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


class QatLayer(nn.Module):
    """A conv2d or linear node with its parameters, by role.

    Args:
        node: the layer, BatchNorm attached where it has one (`stages.graph.fold.attach_batch_norm`).
        params: of its graph.
        estimator: makes the quantizer of the weight.
        start: where that begins, on the folded weight; None keeps the layer float.
        dither: adds the noise of rounding by chance, (x, scale, draw) to x's shape; None rounds to nearest.
        batch_norm: how phases with batch statistics fold.
        momentum: share of a batch's statistics in the moving ones.
    """

    def __init__(
        self,
        node: Node,
        params: Mapping[str, Tensor],
        estimator: Estimator,
        start: Start | None,
        dither: Dither | None,
        batch_norm: BatchNorm,
        momentum: float,
    ) -> None:
        super().__init__()
        self.node = node
        self._dither = dither
        self._naive = batch_norm == "naive"
        self._momentum = momentum
        for role, key in node.params.items():
            if role in ("bn_mean", "bn_var"):
                self.register_buffer(role, params[key].clone())
            else:
                self.register_parameter(role, nn.Parameter(params[key].clone()))
        self._scales_follow = start is not None and not self._naive and _may_follow(node, start)
        if start is not None and self._scales_follow:
            start = replace(
                start, qparams=replace(start.qparams, scale=start.qparams.scale / self._magnitude())
            )
        self.quantizer: FakeQuantizer | None = None if start is None else estimator.weight(start)

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
    def initialize(self) -> None:
        """Let the estimator choose the weight's starting range."""
        if self.quantizer is not None:
            self.quantizer.initialize(self._seen())

    def forward(self, x: Tensor, phase: Phase, input_scale: Tensor) -> Tensor:
        """The layer's value before residual and clamp.

        Args:
            x: float32 (N, …), rounded where the phase rounds.
            phase: what to do.
            input_scale: of x, shape ().
        """
        if not (phase.batch_statistics and "bn_mean" in self.node.params):
            return self._deployed(x, phase, input_scale, *self.folded())
        if self._naive:
            return self._naively_folded(x, phase, input_scale)
        return self._corrected(x, phase)

    def _corrected(self, x: Tensor, phase: Phase) -> Tensor:
        weight = self._rounded_unfolded(phase) if phase.quantize or phase.observe else self._role("weight")
        y = linear_map(self.node, x, weight, self._role("bias"))
        return F.batch_norm(
            y,
            self._role("bn_mean"),
            self._role("bn_var"),
            self._role("bn_weight"),
            self._role("bn_bias"),
            training=True,
            momentum=self._momentum,
            eps=self.node.attrs["bn_eps"],
        )

    def _naively_folded(self, x: Tensor, phase: Phase, input_scale: Tensor) -> Tensor:
        y = linear_map(self.node, x, self._role("weight"), self._role("bias"))
        variance, mean = torch.var_mean(y, dim=[dim for dim in range(y.ndim) if dim != 1], correction=0)
        count = y.numel() // y.shape[1]
        with torch.no_grad():
            self._role("bn_mean").lerp_(mean, self._momentum)
            self._role("bn_var").lerp_(variance * (count / (count - 1)), self._momentum)
        tensors = self.tensors()
        folded = folded_layer(self.node, tensors, gain_of(self.node, tensors, variance), mean)
        return self._deployed(x, phase, input_scale, *folded)

    def _deployed(
        self, x: Tensor, phase: Phase, input_scale: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        learned = self._rounded_folded(weight, phase)
        if not phase.quantize or self.quantizer is None:
            return linear_map(self.node, x, learned, bias)
        qparams = fit_bias(self.qparams(), weight, bias, input_scale)
        deployed = fake_quantize(self._dithered(weight.detach(), qparams, phase), qparams)
        rounded = deployed + (learned - learned.detach())  # as deployed; the gradients are the estimator's
        if bias is not None:
            steps = quantize_bias(bias, input_scale, qparams.scale)
            bias = bias + (dequantize_bias(steps, input_scale, qparams.scale) - bias).detach()
        return linear_map(self.node, x, rounded, bias)

    def _rounded_unfolded(self, phase: Phase) -> Tensor:
        """``w_q / g``: the weight before folding, rounded to the levels that it will have after."""
        rounded = self._rounded(self._seen(), phase)
        if self._scales_follow:
            return self._by_channel(self._sign()) * rounded
        if not phase.quantize:
            weight: Tensor = self._role("weight")
            return weight
        gain = self._by_channel(self._gain())
        # where the gain is 0, the folded weights are, and stay so
        return rounded / torch.where(gain == 0.0, 1.0, gain)

    def _rounded_folded(self, weight: Tensor, phase: Phase) -> Tensor:
        """``w_q`` of the folded `weight`; where scales follow, ``g · (w_q / g)``, which may round apart."""
        if not self._scales_follow:
            return self._rounded(weight, phase)
        unfolded = self._rounded_unfolded(phase)
        return unfolded * self._by_channel(self._gain()) if phase.quantize else weight

    def _rounded(self, weight: Tensor, phase: Phase) -> Tensor:
        if self.quantizer is None:
            return weight
        if phase.observe:
            self.quantizer.observe(weight)
        if not phase.quantize:
            return weight
        rounded: Tensor = self.quantizer(self._dithered(weight, self.quantizer.qparams(), phase))
        return rounded

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


def _may_follow(node: Node, start: Start) -> bool:
    """Whether each channel has a scale, free to be any multiple of its BatchNorm's gain."""
    return "bn_mean" in node.params and start.qparams.ch_axis == 0 and start.snap is None
