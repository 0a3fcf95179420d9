"""How far softmax and layer norm are from real arithmetic: their error before the last rounding, measured."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.integer.kernel import prepare_kernel
from stages.integer.kernels.group_norm import spread_bits, unit_bits
from stages.integer.program import Op, Program, Value

BOUNDS = {"act_min": 0, "act_max": 255}


def program(op: Op, x: Value, y: Value) -> Program:
    return Program(values={"x": x, "y": y}, ops=(op,), input="x", output="y", requantize="float")


def value(name: str, size: int, scale: float, zero_point: int) -> Value:
    return Value(name=name, shape=(size,), scale=scale, zero_point=zero_point, quant_min=0, quant_max=255)


def is_rounding_of(levels: np.ndarray, real: np.ndarray, zero_point: int, error: float | np.ndarray) -> bool:
    """Whether levels are a number within `error` of `real`, rounded, the zero point added, and clamped."""
    low = np.clip(np.floor(real - error + 0.5) + zero_point, 0, 255)
    high = np.clip(np.floor(real + error + 0.5) + zero_point, 0, 255)
    return bool(((low <= levels) & (levels <= high)).all())


@settings(max_examples=150, deadline=None)
@given(
    size=st.sampled_from([1, 2, 7, 64, 1000]),
    x_scale=st.floats(1e-3, 0.5),
    y_scale=st.sampled_from([1 / 255, 1 / 254, 1e-3, 2.0**-21]),
    spread=st.sampled_from([0, 1, 20, 200]),
    seed=st.integers(0, 2**32 - 1),
)
def test_softmax_is_within_its_stated_error(size, x_scale, y_scale, spread, seed):
    """((k + 1)·2^-27 + 2^-22) / s_y levels: 2e-3 for 1000 entries at 1/255, 8e-5 for 64."""
    x, y = value("x", size, x_scale, 100), value("y", size, y_scale, 0)
    tensors = {
        "exponentials": np.rint(np.exp(-x_scale * np.arange(256)) * 2.0**26).astype(np.int32),
        "inverse_scale": np.array([round(2.0**14 / y_scale)], np.int64),
    }
    op = Op(op="softmax", inputs=("x",), output="y", attrs={"axis": 0, **BOUNDS}, tensors=tensors)
    rng = np.random.default_rng(seed)
    q = np.clip(rng.normal(120, spread, (20, size)), 0, 255).astype(np.uint8)
    levels = prepare_kernel(op, program(op, x, y))(q)

    exponentials = np.exp(x_scale * (q.astype(np.float64) - q.max(axis=1, keepdims=True)))
    real = exponentials / exponentials.sum(axis=1, keepdims=True) / y_scale
    assert is_rounding_of(levels, real, 0, ((size + 1) * 2.0**-27 + 2.0**-22) / y_scale)


@settings(max_examples=150, deadline=None)
@given(
    size=st.sampled_from([1, 2, 3, 16, 64, 768, 4096]),
    x_scale=st.floats(1e-3, 0.5),
    y_scale=st.floats(0.01, 0.1),
    eps=st.sampled_from([1e-12, 1e-5, 1e-3]),
    spread=st.sampled_from([0, 1, 20, 200]),
    seed=st.integers(0, 2**32 - 1),
)
def test_layer_norm_is_within_its_stated_error(size, x_scale, y_scale, eps, spread, seed):
    """2^-22·√n·max|γ|/s_y levels, and 2^-12/(n(n−1)) of the value: 5e-4 for 64 values in ±4 at 8 bits."""
    rng = np.random.default_rng(seed)
    x, y = value("x", size, x_scale, 77), value("y", size, y_scale, 128)
    gamma, beta = rng.normal(0, 1, size), rng.normal(0, 1, size)
    by_level = gamma * np.sqrt(size) / y_scale
    shift = 30 + 23 - int(np.frexp(np.abs(by_level).max())[1])
    tensors = {
        "gamma": np.rint(by_level * 2.0 ** (shift - 30)).astype(np.int32),
        "beta": np.rint(beta / y_scale * 2.0**shift).astype(np.int64),
    }
    epsilon = round(2.0**10 * size**3 * eps / x_scale**2)
    attrs = {"epsilon": epsilon, "shift": shift, "narrow": 0, **BOUNDS}
    op = Op(op="layer_norm", inputs=("x",), output="y", attrs=attrs, tensors=tensors)
    q = np.clip(rng.normal(120, spread, (20, size)), 0, 255).astype(np.uint8)
    levels = prepare_kernel(op, program(op, x, y))(q)

    centred = x_scale * (q.astype(np.float64) - 77)
    deviation = centred - centred.mean(axis=1, keepdims=True)
    deviation[(q == q[:, :1]).all(axis=1)] = 0.0
    normal = deviation / np.sqrt((deviation**2).mean(axis=1, keepdims=True) + eps) * gamma / y_scale
    error = 2.0**-22 * np.abs(by_level).max() + 2.0**-12 / max(size * (size - 1), 1) * np.abs(normal)
    assert is_rounding_of(levels, normal + beta / y_scale, 128, error)


@settings(max_examples=150, deadline=None)
@given(
    size=st.sampled_from([1, 2, 3, 16, 64, 768, 4096, 2**16]),
    x_scale=st.floats(1e-3, 0.5),
    y_scale=st.floats(0.01, 0.1),
    eps=st.sampled_from([0.0, 1e-6, 1e-3]),
    spread=st.sampled_from([0, 1, 20, 200]),
    seed=st.integers(0, 2**32 - 1),
)
def test_rms_norm_is_within_its_stated_error(size, x_scale, y_scale, eps, spread, seed):
    """2^-23 of the largest that a result can be, √n·max|γ|/s_y, and 2^-21 of the value for epsilon's."""
    rng = np.random.default_rng(seed)
    x, y = value("x", size, x_scale, 77), value("y", size, y_scale, 128)
    gamma = rng.normal(0, 1, size)
    by_level = gamma * np.sqrt(size) / y_scale
    shift = 30 + 23 - int(np.frexp(np.abs(by_level).max())[1])
    tensors = {"gamma": np.rint(by_level * 2.0 ** (shift - 30)).astype(np.int32)}
    epsilon = round(2.0**20 * size * eps / x_scale**2)
    attrs = {"axis": 0, "epsilon": epsilon, "floor": 1, "shift": shift, **BOUNDS}
    op = Op(op="rms_norm", inputs=("x",), output="y", attrs=attrs, tensors=tensors)
    q = np.clip(rng.normal(120, spread, (4, size)), 0, 255).astype(np.uint8)
    levels = prepare_kernel(op, program(op, x, y))(q)

    c = q.astype(np.float64) - 77
    squares = np.square(c).mean(axis=1, keepdims=True) + eps / x_scale**2
    real = c / np.sqrt(np.maximum(squares, 1e-30)) * gamma / y_scale
    error = 2.0**-23 * np.abs(by_level).max() + np.abs(real) * 2.0**-21
    assert is_rounding_of(levels, real, 128, error)


@settings(max_examples=60, deadline=None)
@given(
    size=st.sampled_from([1, 2, 3, 16, 64, 4097, 2**18]),
    x_scale=st.floats(1e-3, 0.5),
    y_scale=st.floats(0.01, 0.1),
    eps=st.sampled_from([1e-12, 1e-5, 1e-3]),
    spread=st.sampled_from([0, 1, 20, 200]),
    seed=st.integers(0, 2**32 - 1),
)
def test_group_norm_is_within_its_stated_error(size, x_scale, y_scale, eps, spread, seed):
    """2^-21·√n·max|γ|/s_y levels, and for epsilon's rounding 2^-20 of the value."""
    rng = np.random.default_rng(seed)
    x, y = (
        Value(name=name, shape=(2, size), scale=scale, zero_point=zero, quant_min=0, quant_max=255)
        for name, scale, zero in (("x", x_scale, 77), ("y", y_scale, 128))
    )
    gamma, beta = rng.normal(0, 1, 2), rng.normal(0, 1, 2)
    by_level = gamma * 2.0 ** unit_bits(size) / y_scale
    shift = 30 + 23 - int(np.frexp(np.abs(by_level).max())[1])
    tensors = {
        "gamma": np.rint(by_level * 2.0 ** (shift - 30)).astype(np.int32),
        "beta": np.rint(beta / y_scale * 2.0**shift).astype(np.int64),
    }
    epsilon = round(2.0 ** spread_bits(size) * size**2 * eps / x_scale**2)
    attrs = {"groups": 2, "epsilon": epsilon, "shift": shift, **BOUNDS}
    op = Op(op="group_norm", inputs=("x",), output="y", attrs=attrs, tensors=tensors)
    q = np.clip(rng.normal(120, spread, (2, 2, size)), 0, 255).astype(np.uint8)
    levels = prepare_kernel(op, program(op, x, y))(q)

    c = q.astype(np.float64)
    c -= c.mean(axis=2, keepdims=True)
    normal = c / np.sqrt(np.square(c).mean(axis=2, keepdims=True) + eps / x_scale**2)
    real = (normal * gamma[:, None] + beta[:, None]) / y_scale
    error = 2.0**-21 * np.abs(by_level).max() + np.abs(real) * 2.0**-20 + 1e-9
    assert is_rounding_of(levels, real, 128, error)
