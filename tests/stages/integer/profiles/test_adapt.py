"""Programs in TFLite's form have the numbers that its runtimes derive."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from stages.graph.lower import lower
from stages.integer.interpreter import Interpreter, dequantize_output, quantize_input
from stages.integer.profiles.adapt import layer_ratio
from stages.integer.program import Value
from tests.quantizing import fused, quantized


def value(scale: float) -> Value:
    return Value(
        name="x", shape=(4,), scale=float(np.float32(scale)), zero_point=0, quant_min=-128, quant_max=127
    )


def test_the_ratio_of_one_scale_for_a_whole_weight_is_a_float32_product():
    x, y, scale = value(0.1), value(0.3), np.float32([0.7])
    whole, own = (layer_ratio(x, scale, y, whole=flag)[0] for flag in (True, False))
    assert whole == float(np.float32(x.scale) * scale[0]) / y.scale
    assert own == x.scale * float(scale[0]) / y.scale
    assert whole != own


def test_ratios_of_channels_are_in_double_precision_anyway():
    x, y, scale = value(0.1), value(0.3), np.float32([0.7, 0.9])
    both = [layer_ratio(x, scale, y, whole=flag).tolist() for flag in (True, False)]
    assert both[0] == both[1] == [x.scale * float(s) / y.scale for s in scale]


def test_a_sum_stays_a_sum():
    class Sums(nn.Module):
        def forward(self, x):
            return x.sum((2, 3))

    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    program = lower(quantized(fused(Sums(), (3, 5, 5)), x), "tflm")
    assert [op.op for op in program.ops] == ["mean"]
    real = dequantize_output(program, Interpreter(program).run(quantize_input(program, x.numpy())))
    assert np.abs(real - x.sum((2, 3)).numpy()).max() <= 25 * program.values[program.input].scale
