"""Programs in TFLite's form have the numbers that its runtimes derive."""

from __future__ import annotations

import numpy as np

from stages.integer.profiles.adapt import layer_ratio
from stages.integer.program import Value


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
