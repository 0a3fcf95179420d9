"""conv2d and linear on uint8 images in channels-last order, by PyTorch's oneDNN operators.

With ``x_scale = 1``, ``w_scale = ratio`` and ``output_scale = 1`` the operators compute, in float32 from the
exact int32 sum,

    y = saturate(zy + rint(clamp(Σ (qx−zx) qw · ratio + bias·ratio [+ (qr−zr)·residual_ratio])))

which is the program's `float` requantization but that bias and product are rounded apart: results differ
where the sum lies within a few 2^-24 of a tie. They know no zero point of weights: ``qw − zw`` is written as
a sum of parts of 8 bits, and the input is repeated once for each part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.backends.onednn_kernels.verified import verified
from stages.integer.bounds import centred_weight
from stages.integer.kernel import Kernel, prepare_kernel, signature
from stages.integer.program import Integers, Op, Program

PACKED_SIZES = 4
"""Batch sizes for which packed weights are kept."""


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Makes kernels of an unsigned program: oneDNN's for conv2d and linear, the reference's for the rest.

    Args:
        weight_min: least weight that the CPU's kernels multiply exactly.
        weight_max: largest such weight.
        overwrite: let a sum replace its residual where no other operator reads that.
    """

    weight_min: int = -128
    weight_max: int = 127
    overwrite: bool = True

    def prepare(self, op: Op, program: Program) -> Kernel:
        """The kernel of one operator, checked against the reference when it first runs."""
        wide = any(program.values[name].wide for name in (*op.inputs, op.output))
        fast = self.fast(op, program) if op.op in ("conv2d", "linear") and not wide else None
        return prepare_kernel(op, program) if fast is None else verified(fast, op, program)

    def fast(self, op: Op, program: Program) -> Kernel | None:
        """oneDNN's kernel of a conv2d or linear, unchecked; None where the reference serves better."""
        parts = self._split(centred_weight(op))
        groups = op.attrs.get("groups", 1)
        slow = len(parts) > 1 and 1 < groups == program.values[op.inputs[0]].shape[0]  # 20 times as long
        if slow or _has_empty_windows(op, program):
            return None
        weight = torch.from_numpy(np.concatenate(parts, axis=1))
        call = _conv2d(op, program, weight) if op.op == "conv2d" else _linear(op, program, weight)
        low, high = op.attrs["act_min"], op.attrs["act_max"]
        keep = not (self.overwrite and len(op.inputs) == 2 and _may_overwrite(op, program))

        def run(q: Integers, *residual: Integers) -> Integers:
            x = _packed(_repeat(_rows(op, q), len(parts), groups))
            if residual:
                other = _rows(op, residual[0])
                y = call(x, _packed(other.clone() if keep else other))
                if (low, high) != (0, 255):
                    y.clamp_(low, high)  # a sum takes no clamp of its own
            else:
                y = call(x, None)
            levels: Integers = y.numpy()
            return levels.reshape(len(q), *program.values[op.output].shape)

        return run

    def _split(self, weight: NDArray[np.int32]) -> list[NDArray[np.int8]]:
        """Arrays within the limits whose sum is `weight`: one, unless weights have a zero point."""
        parts: list[NDArray[np.int8]] = []
        rest = weight
        while not parts or rest.any():
            part = np.clip(rest, self.weight_min, self.weight_max)
            parts.append(part.astype(np.int8))
            rest = rest - part
        return parts


LayerCall = Callable[[Tensor, Tensor | None], Tensor]


def _conv2d(op: Op, program: Program, weight: Tensor) -> LayerCall:
    geometry = [list(op.attrs[name]) for name in ("stride", "padding", "dilation")]
    geometry.append(op.attrs["groups"])
    operators = torch.ops.onednn
    scale, zero_point = _ratio(op), program.values[op.inputs[0]].zero_point

    def pack(shape: list[int]) -> Tensor:
        packed: Tensor = operators.qconv_prepack(weight, scale, 1.0, zero_point, *geometry, shape)
        return packed

    return _call(op, program, pack, operators.qconv2d_pointwise, operators.qconv2d_pointwise.binary, geometry)


def _linear(op: Op, program: Program, weight: Tensor) -> LayerCall:
    operators = torch.ops.onednn

    def pack(shape: list[int]) -> Tensor:
        packed: Tensor = operators.qlinear_prepack(weight, shape)
        return packed

    return _call(op, program, pack, operators.qlinear_pointwise, operators.qlinear_pointwise.binary, [])


def _call(
    op: Op,
    program: Program,
    pack: Callable[[list[int]], Tensor],
    unary: Callable[..., Tensor],
    binary: Callable[..., Tensor],
    geometry: list[Any],
) -> LayerCall:
    """One layer as a function of input and residual. Weights are packed for each batch size."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    ratio = _ratio(op)
    no_zero_points = torch.zeros(len(ratio), dtype=torch.int32)
    bias = (torch.from_numpy(op.tensors["bias"].astype(np.float64)) * ratio).float()
    low, high = op.attrs["act_min"] - y.zero_point, op.attrs["act_max"] - y.zero_point
    saturates = (op.attrs["act_min"], op.attrs["act_max"]) == (0, 255)
    clamp: list[Any] = ["none", [], ""] if saturates else ["hardtanh", [float(low), float(high)], ""]
    packed: dict[int, Tensor] = {}

    def call(q: Tensor, residual: Tensor | None) -> Tensor:
        weights = packed.get(len(q))
        if weights is None:
            if len(packed) == PACKED_SIZES:
                packed.clear()
            weights = packed[len(q)] = pack(list(q.shape))
        layer = [q, 1.0, x.zero_point, weights, ratio, no_zero_points]
        output = [1.0, y.zero_point, torch.uint8]
        if residual is None:
            return unary(*layer, bias, *geometry, *output, *clamp)
        r = program.values[op.inputs[1]]
        terms = [float(op.tensors["residual_ratio"][0]), r.zero_point, "sum", 1.0, "none", [], ""]
        return binary(*layer, residual, bias, *geometry, *output, *terms)

    return call


def _ratio(op: Op) -> Tensor:
    """float32 (O,)."""
    ratio = np.broadcast_to(op.tensors["ratio"].astype(np.float32), op.tensors["bias"].shape)
    return torch.from_numpy(ratio.copy())


def _rows(op: Op, q: Integers) -> Tensor:
    """What the operator takes: images as they are, all vectors of a linear layer below each other."""
    return torch.from_numpy(q if op.op == "conv2d" else q.reshape(-1, q.shape[-1]))


def _repeat(x: Tensor, times: int, groups: int) -> Tensor:
    """`x` with the channels of each group `times` times over."""
    if times == 1:
        return x
    grouped = x.reshape(x.shape[0], groups, -1, *x.shape[2:])
    return torch.cat([grouped] * times, dim=2).flatten(1, 2)


def _packed(x: Tensor) -> Tensor:
    """`x` without gaps, images channels-last: as it is, where it already lies so."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x.contiguous()


def _has_empty_windows(op: Op, program: Program) -> bool:
    """Whether some window of a conv2d meets nothing but padding; oneDNN 3.12 reads wild memory there."""
    if op.op != "conv2d":
        return False
    x, y = program.values[op.inputs[0]], program.values[op.output]
    for axis, kernel in enumerate(op.tensors["weight"].shape[2:]):
        stride, padding, dilation = (op.attrs[name][axis] for name in ("stride", "padding", "dilation"))
        first = np.arange(y.shape[1 + axis]).reshape(-1, 1) * stride - padding
        taps = first + np.arange(kernel) * dilation
        if not ((taps >= 0) & (taps < x.shape[1 + axis])).any(axis=1).all():
            return True
    return False


def _may_overwrite(op: Op, program: Program) -> bool:
    """Whether nothing reads the residual, or memory that it shares, from this operator on."""
    x, residual = op.inputs
    if residual in (x, program.output):
        return False
    producers = [other for other in program.ops if other.output == residual]
    readers = [other for other in program.ops if residual in other.inputs]
    shared = any(signature(other).view for other in (*producers, *readers))
    return readers[-1].output == op.output and not shared
