"""The integer program: the network as integer operators over int8/uint8 values.

Every value stands for ``real = scale * (q - zero_point)``. The operators, with ``zx``, ``zw``, ``zy`` the
zero points of input, weight and output, ``rescale`` the requantization that `Program.requantize` names,
and ``clamp`` to ``[act_min, act_max]`` (levels of the output):

======================  ==================================================================================
conv2d, linear          ``acc = Σ (qx−zx)(qw−zw) + bias`` in int32; ``y = clamp(zy + rescale(acc))``;
                        linear maps (…, I) to (…, O)
… with a residual r     ``y = clamp(zy + rdp(rescale(acc) + rescale(qr−zr), headroom))``: both terms are
                        rescaled to steps of ``scale_y / 2^headroom``, added, and rounded once
add                     ``y = clamp(zy + rdp(Σ_i rescale_i(q_i−z_i), headroom))``
concat                  each input ``clamp(zy + rescale_i(q_i−z_i))``, then joined along `axis`
group_conv2d,           ``y = clamp(zy + rdp(Σ_g rescale_g(acc_g) [+ residual], headroom))``: an accumulator
group_linear            for each group of input channels, with a ratio of its own; the first takes the bias
float_conv2d,           ``y = clamp(zy + rint((Σ s_x(qx−zx)·w + b [+ s_r(qr−zr)]) / s_y))`` in float64:
float_linear            a layer that was left unquantized, an island between integers
avg_pool2d              ``y = clamp(zy + rescale(Σ (q−z)))``; the multiplier holds the division by the count
mean                    the same over the dimensions `axes`
requantize              ``y = clamp(zy + rescale(q−z))``
table                   ``y = table[q − low]``, low the least value of the input's dtype (−128 or 0): any
                        function of one value; the table holds rounding and clamp
multiply                ``y = clamp(zy + rescale((q1−z1)(q2−z2)))``; shapes broadcast (equal or 1)
matmul                  ``acc = Σ_k (qa−za)[…,i,k] (qb−zb)[…,k,j]`` in int32; ``y = clamp(zy + rescale(acc))``
softmax                 int64: ``a = exponentials[max q − q]``, Σ its sum along `axis`;
                        ``y = clamp(zy + ⌊(2·a·inverse_scale + Σ·2^14) / (Σ·2^15)⌋)``
layer_norm              int64, over the last dimension (n values c = q−zx): ``d = n·c − Σ c``,
                        ``D = max(2^10·Σ d² + epsilon, 1)``, j the largest with ``D·4^j < 2^62``,
                        ``r = ⌊√(D·4^j)⌋``, ``u = ⌊(d·2^(j+36) + r) / (2r)⌋``;
                        ``y = clamp(zy + ⌊(u·gamma + beta + 2^(shift−1)) / 2^shift⌋)``
constant                ``y = levels``, the same for each sample of the input, which says how many there are
max_pool2d, reshape,    no arithmetic on levels; output has the input's scale and zero point; padding is
slice, pad              `zero_point` (max_pool2d: quant_min)
permute                 likewise: dimension i of the output is dimension ``axes[i]`` of the input
upsample_nearest        likewise, over (C, H, W): ``y[c, i, j] = q[c, ⌊i/f⌋, ⌊j/g⌋]``, ``factor = (f, g)``
insert_zeros            likewise: ``y[c, f·i, g·j] = q[c, i, j]``, all between them `zero_point`; the output
                        is (C, f·(H−1)+1, g·(W−1)+1). With a conv2d after it, a transposed convolution
======================  ==================================================================================

The ratio of scales that ``rescale`` multiplies by is stored in two forms, of which `Program.requantize`
takes one: fixed-point ``multiplier · 2^(shift-31)`` (tensors ``multiplier`` int32, ``shift`` int32; a
residual's are ``residual_multiplier``, ``residual_shift``), which holds the headroom, and float32 ``ratio``
(``residual_ratio``), which does not. The three modes read the same program:

==================  ======================================================================================
fixed_point         ``rescale`` is `multiply_by_quantized_multiplier`, which rounds twice; ``rdp`` is
                    `rounding_divide_by_pot`, ties away from zero
fixed_point_single  ``rescale`` is `multiply_by_quantized_multiplier_single`; ``rdp(t, h)`` is
                    ``(t + 2^(h−1)) >> h``, and ``t`` for ``h = 0``: all rounding is ``⌊v + ½⌋``. A single
                    operand is rounded once; each term of a sum to ``2^-headroom`` levels, and the sum once
                    more, so that it differs from the exact sum, rounded, only where that lies within
                    ``terms · 2^-(headroom+1)`` levels of a tie
float               the sum is formed in float32 and rounded half to even:
                    ``y = clamp(zy + rint(float32(acc)·ratio [+ float32(qr−zr)·residual_ratio]))``
==================  ======================================================================================

In both fixed points terms saturate to int32, and sums of terms are proven to fit it at convert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Requantize = Literal["fixed_point", "fixed_point_single", "float"]
Integers = NDArray[np.integer[Any]]

FORMAT_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Value:
    """A tensor of the program: shape of one sample (no batch dimension) and quantization parameters."""

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    quant_min: int
    quant_max: int

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8 where levels are signed, else uint8."""
        return np.dtype(np.int8 if self.quant_min < 0 else np.uint8)


@dataclass(frozen=True, kw_only=True)
class Op:
    """One integer operator.

    Args:
        op: kernel name, a row of the table above.
        inputs: names of values; conv2d and linear take an optional second, the residual.
        output: name of the value it computes, which is also the operator's name in messages.
        attrs: JSON values. conv2d: ``stride, padding, dilation`` (pairs), ``groups``; pools: ``kernel,
            stride, padding`` (pairs), max_pool2d also ``dilation, ceil_mode``; concat ``axis``; reshape
            ``shape``; pad ``pads``; slice ``starts, ends, steps``; mean ``axes`` (ascending), ``keepdim``;
            permute ``axes``; softmax ``axis`` (all of them per-sample dimensions, no batch);
            upsample_nearest and insert_zeros ``factor`` (a pair); layer_norm ``epsilon, shift``; what
            requantizes, but table, ``act_min, act_max``; add and residuals ``headroom``.
        tensors: conv2d ``weight`` int8 or uint8 (O, I/groups, kH, kW), linear's (O, I);
            ``weight_scale`` float32 and ``weight_zero_point`` int32, (1,) or (O,); ``bias`` int32 (O,);
            ``multiplier``, ``shift`` int32 and ``ratio`` float32: (1,) or (O,) for conv2d and linear,
            (number of inputs,) for add and concat, (1,) for avg_pool2d, mean, requantize, multiply and
            matmul. table has ``table`` (256,) and constant ``levels``, in the output's dtype; softmax
            ``exponentials`` int32 (256,), ``rint(2^26·exp(−s_x·d))``, and ``inverse_scale`` int64 (1,),
            ``rint(2^14/s_y)``; layer_norm ``gamma`` int32 (n,) and ``beta`` int64 (n,), see its kernel.
            float_conv2d and
            float_linear have ``weight`` and ``bias`` in float32. group_conv2d and group_linear have
            ``groups`` = G, weights (G·O, I/G, …), of which rows ``g·O .. g·O + O − 1`` read group g, scales
            and ratios (G·O,) and a bias (O,).
    """

    op: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Program:
    """Operators in execution order over named values; see the module's table for what each computes."""

    values: Mapping[str, Value]
    ops: tuple[Op, ...]
    input: str
    output: str
    requantize: Requantize = "fixed_point"
