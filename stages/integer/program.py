"""The integer program: the network as integer operators over int8/uint8 values.

Every value stands for ``real = scale * (q - zero_point)``. What an operator computes, and from which
attributes and tensors, is said by its kernel's module, `stages.integer.kernels.<op>`, in these words:
``zx``, ``zw``, ``zy`` are the zero points of input, weight and output, ``rescale`` is the requantization
that `Program.requantize` names,
``rdp`` the rounding division by ``2^headroom``, and ``clamp`` goes to ``[act_min, act_max]``, levels of the
output. An operator that only moves levels gives its output the input's scale and zero point, and pads with
`zero_point`.

The ratio of scales that ``rescale`` multiplies by is stored in two forms, of which `Program.requantize`
takes one: fixed-point ``multiplier · 2^(shift-31)`` (tensors ``multiplier`` int32, ``shift`` int32; a
residual's are ``residual_multiplier``, ``residual_shift``), which holds the headroom, and float32 ``ratio``
(``residual_ratio``), which does not. The modes read the same program:

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

tflm is TFLite Micro's arithmetic: ``fixed_point``, but for the operators in `stages.integer.profiles.tflm`.

In both fixed points terms saturate to int32, and sums of terms are proven to fit it at convert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Requantize = Literal["fixed_point", "fixed_point_single", "float", "tflm"]
Integers = NDArray[np.integer[Any]]

FORMAT_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Value:
    """A tensor of the program: shape of one sample (no batch dimension) and quantization parameters.

    Levels that 8 bits do not hold are wide: counts, numbers of tokens, which the network's input alone holds,
    and what moves it; and a residual stream of up to 16 bits, which sums and normalizations read and give.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    quant_min: int
    quant_max: int

    @property
    def wide(self) -> bool:
        """Whether its levels are more than 8 bits hold."""
        return self.quant_max > 255 or self.quant_min < -128

    @property
    def counts(self) -> bool:
        """Whether its wide levels are numbers of tokens."""
        return self.wide and (self.scale, self.zero_point, self.quant_min) == (1.0, 0, 0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8 where levels are signed, else uint8; int32 where they are wide."""
        if self.wide:
            return np.dtype(np.int32)
        return np.dtype(np.int8 if self.quant_min < 0 else np.uint8)


@dataclass(frozen=True, kw_only=True)
class Op:
    """One integer operator.

    Args:
        op: kernel name, a module of `stages.integer.kernels`.
        inputs: names of values; conv2d and linear take an optional second, the residual.
        output: name of the value it computes, which is also the operator's name in messages.
        attrs: JSON values that its kernel's `SIGNATURE` names. Dimensions do not count the batch. What
            requantizes to bounds of its own has ``act_min, act_max``; sums of rescaled terms have
            ``headroom``.
        tensors: as its kernel says. A layer has ``weight`` int8 or uint8 (O, …), ``weight_scale`` float32 and
            ``weight_zero_point`` int32, (1,) or (O,), and ``bias`` int32 (O,). Ratios of scales are
            ``multiplier``, ``shift`` int32 and ``ratio`` float32: (1,) or (O,) for layers, (number of
            inputs,) for add and concat, (1,) for others.
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
