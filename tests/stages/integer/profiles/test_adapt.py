"""Programs in TFLite's form have the numbers that its runtimes derive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from stages.backends.foreign.tflite_sessions import load_tflm
from stages.exporters.tflite_file.model import program_to_tflite
from stages.graph.lower import lower
from stages.integer.interpreter import Interpreter, dequantize_output, quantize_input
from stages.integer.profiles.adapt import layer_ratio
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import rescaling
from tests.quantizing import fused, quantized


def value(name: str, shape: tuple[int, ...], scale: float, zero_point: int = 0, low: int = -128) -> Value:
    return Value(
        name=name,
        shape=shape,
        scale=float(np.float32(scale)),
        zero_point=zero_point,
        quant_min=low,
        quant_max=low + 255,
    )


def test_ratios_are_of_a_product_in_double_precision_but_in_files_of_uint8():
    scale = np.float32([0.7])
    for low, product in ((-128, float(np.float32(0.1)) * float(scale[0])), (0, np.float32(0.1) * scale[0])):
        x, y = value("x", (4,), 0.1, low=low), value("y", (4,), 0.3, low=low)
        assert layer_ratio(x, scale, y).tolist() == [float(product) / y.scale]
        both = layer_ratio(x, np.float32([0.7, 0.9]), y)
        assert both.tolist() == [x.scale * float(s) / y.scale for s in np.float32([0.7, 0.9])]


def test_a_million_sums_of_a_layer_with_one_scale_are_tflite_micros():
    """So many that the multiplier's last bits show: 4 of these differ where the product is in float32."""
    rng = np.random.default_rng(3)
    x, y = value("x", (64,), rng.uniform(0.01, 0.1), 3), value("y", (256,), rng.uniform(0.01, 0.05))
    scale = np.array([rng.uniform(0.0005, 0.002)], np.float32)
    tensors = {
        "weight": rng.integers(-127, 128, (256, 64)).astype(np.int8),
        "weight_scale": scale,
        "weight_zero_point": np.zeros(1, np.int32),
        "bias": np.zeros(256, np.int32),
        **rescaling(layer_ratio(x, scale, y)),
    }
    q = rng.integers(-128, 128, (4000, 64)).astype(np.int8)
    tensors["bias"] = rng.integers(-5000, 5000, 256).astype(np.int32)
    bounds = {"act_min": -128, "act_max": 127}
    layer = Op(op="linear", inputs=("x",), output="y", attrs=bounds, tensors=tensors)
    program = Program(values={"x": x, "y": y}, ops=(layer,), input="x", output="y", requantize="tflm")
    model = program_to_tflite(program, 1000)
    session = load_tflm(model, model.outputs)
    found = np.concatenate([session(q[i : i + 1000])[0].reshape(1000, 256) for i in range(0, 4000, 1000)])
    assert (Interpreter(program).run(q) != found).sum() == 0
    other = rescaling((np.float32(x.scale) * scale).astype(np.float64) / y.scale)
    wrong = replace(program, ops=(replace(layer, tensors=tensors | other),))
    assert (Interpreter(wrong).run(q) != found).sum() > 0


def test_a_sum_stays_a_sum():
    class Sums(nn.Module):
        def forward(self, x):
            return x.sum((2, 3))

    x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    program = lower(quantized(fused(Sums(), (3, 5, 5)), x), "tflm")
    assert [op.op for op in program.ops] == ["mean"]
    real = dequantize_output(program, Interpreter(program).run(quantize_input(program, x.numpy())))
    assert np.abs(real - x.sum((2, 3)).numpy()).max() <= 25 * program.values[program.input].scale
