"""A block of a network with variables in the place of its weights' rounding and its values' scales."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.corrections.soft_rounding import SoftRounding
from stages.graph.execute import activate, pre_activation
from stages.graph.ir import Node
from stages.graph.operators.registry import is_layer, operator
from stages.graph.points import sources
from stages.graph.quantized import QuantizedGraph
from stages.quant.estimators.base import Levels, Start, inside
from stages.quant.weights import MAX_BIAS

LEAST = 2.0**-4
"""Least scale, as a share of the calibrated one: a step of the optimizer must not take it to zero."""


class _Scale:
    """A learned scale: ``s = start · exp(θ)``, as the quantizer can have it."""

    def __init__(self, start: Start, least: float) -> None:
        self._start = start
        self.theta = torch.zeros((), requires_grad=True)
        self._least = math.log(max(least / float(start.qparams.scale), LEAST))
        self.levels = Levels.of(start.qparams, 0)

    def value(self) -> Tensor:
        return self._start.usable(self._start.qparams.scale * self.theta.exp())

    def bound(self) -> None:
        with torch.no_grad():
            self.theta.clamp_(min=min(self._least, 0.0))


class SoftBlock:
    """A block whose weights' rounding and values' scales can be learned.

    Args:
        quantized: the network as it stands, where the variables begin.
        nodes: of the block, in execution order.
        starts: by quantization point, where its scale starts, for the points whose scales may change.
    """

    def __init__(
        self, quantized: QuantizedGraph, nodes: tuple[Node, ...], starts: Mapping[str, Start]
    ) -> None:
        self._quantized = quantized
        self._nodes = nodes
        self._soft = {
            node.name: SoftRounding(
                quantized.graph.params[node.params["weight"]], quantized.weights[node.name]
            )
            for node in nodes
            if node.name in quantized.weights and node.name not in quantized.levels
        }
        self._scales = {
            node.name: _Scale(starts[node.name], _least_scale(quantized, node.name))
            for node in nodes
            if node.name in starts
        }
        self._fixed = {
            name: qparams
            for name, qparams in quantized.activations.items()
            if name in {node.name for node in nodes} and name not in self._scales
        }
        self._params = {
            node.name: quantized.layer_params(node)[0]
            for node in nodes
            if is_layer(node) and node.name not in self._soft
        }

    @property
    def learns(self) -> bool:
        """Whether there is a variable."""
        return bool(self._soft or self._scales)

    def rounding(self) -> list[Tensor]:
        """The variables V of the weights."""
        return [soft.v for soft in self._soft.values()]

    def log_scales(self) -> list[Tensor]:
        """The logarithms of the scales, relative to where they start."""
        return [scale.theta for scale in self._scales.values()]

    def __call__(
        self, values: Mapping[str, Tensor], drop: float, chance: np.random.Generator
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """What the block computes, differentiable.

        Args:
            values: what it reads, float32 (N, *shape) by name.
            drop: the share of values that are left unrounded.
            chance: which.

        Returns:
            All values by name, and each weight's h.
        """
        h = {name: soft.h() for name, soft in self._soft.items()}
        found = dict(values)
        for node in self._nodes:
            y = self._compute(node, h, *(found[name] for name in node.inputs))
            if node.name in self._scales or node.name in self._fixed:
                scale, levels = self._grid(node.name)
                y = _Round.apply(y, scale, levels, _kept(y, drop, chance))  # type: ignore[no-untyped-call]
            found[node.name] = y
        return found, list(h.values())

    def result(self) -> QuantizedGraph:
        """The network with the levels and scales that were found."""
        quantized = self._quantized
        activations = {
            name: replace(quantized.activations[name], scale=scale.value().detach())
            for name, scale in self._scales.items()
        }
        levels = {name: soft.levels() for name, soft in self._soft.items()}
        return replace(
            quantized,
            activations={**quantized.activations, **activations},
            levels={**quantized.levels, **levels},
        )

    def bound(self) -> None:
        """Keep scales above their least."""
        for scale in self._scales.values():
            scale.bound()

    def _grid(self, name: str) -> tuple[Tensor, Levels]:
        if name in self._scales:
            return self._scales[name].value(), self._scales[name].levels
        return self._fixed[name].scale, Levels.of(self._fixed[name], 0)

    def _compute(self, node: Node, h: Mapping[str, Tensor], *operands: Tensor) -> Tensor:
        if not is_layer(node):
            graph = self._quantized.graph
            return activate(node, operator(node).value(node.attrs, graph.roles(node), *operands))
        soft = self._soft.get(node.name)
        weight = self._params[node.name] if soft is None else soft.weight(h[node.name])
        return activate(node, pre_activation(node, weight, self._quantized.real_bias(node), *operands))


def _least_scale(quantized: QuantizedGraph, name: str) -> float:
    """The scale of a value below which the bias of a layer that reads it would leave its int32 steps."""
    source, least = sources(quantized.graph), 0.0
    for node in quantized.graph.nodes:
        bias = quantized.real_bias(node) if node.name in quantized.weights else None
        if bias is not None and source[node.inputs[0]] == name:
            steps = bias.double().abs() / quantized.weights[node.name].bias_scale.double()
            least = max(least, 2.0 * float(steps.max()) / MAX_BIAS)
    return least


def mixed(simulated: Tensor, floats: Tensor, drop: float, chance: np.random.Generator) -> Tensor:
    """The simulated value, at places drawn by chance the float one: a share `drop` of them."""
    kept = _kept(simulated, drop, chance)
    return simulated if kept is None else torch.lerp(floats, simulated, kept)


def _kept(x: Tensor, drop: float, chance: np.random.Generator) -> Tensor | None:
    """1.0 where a value is rounded, else 0.0, the shape of `x`, to 1/256 of a share; None for everywhere.

    In floats, since interpolating between two tensors, exact at 0 and 1, is much faster than choosing.
    """
    limit = round(256 * drop)
    if limit == 0:
        return None
    drawn = np.frombuffer(
        bytearray(chance.bytes(x.numel())), np.uint8
    )  # torch's own takes twenty times as long
    return torch.from_numpy((drawn >= limit).astype(np.float32)).reshape(x.shape)


class _Round(torch.autograd.Function):
    """``y = s · clamp(round(x/s), low, high)`` where it is kept, else x.

    Where it is kept, with v = x/s, ``∂y/∂x`` is 1 where low < v < high, else 0, and ``∂y/∂s`` is
    ``round(v) − v`` inside and the end outside.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, levels: Levels, kept: Tensor | None) -> Tensor:
        v = x / scale
        c = torch.round(v).clamp_(levels.lowest, levels.highest)
        ctx.save_for_backward(v, c, *(() if kept is None else (kept,)))
        ctx.levels = levels
        y = c * scale
        return y if kept is None else torch.lerp(x, y, kept)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        v, c, *kept = ctx.saved_tensors
        passed = inside(gradient, v, ctx.levels)
        slope = (gradient * c).addcmul_(passed, v, value=-1.0)
        if kept:
            passed = torch.lerp(gradient, passed, kept[0])
            slope *= kept[0]
        return passed, slope.sum(), None, None
