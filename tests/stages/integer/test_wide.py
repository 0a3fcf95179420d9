"""A residual stream of more than 8 bits, exact against unbounded integers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.integer.format import load_program, save_program
from stages.integer.interpreter import Interpreter
from stages.integer.kernels.layer_norm import narrowing
from stages.integer.program import Op, Program, Value
from stages.integer.validate import validate
from tests.stages.integer import oracle
from tests.stages.integer.strategies import MODES, ProgramBuilder, random_input

WIDE = ((0, 65535), (-32767, 32767), (-32768, 32767), (0, 1023), (-2047, 2047))


class StreamBuilder(ProgramBuilder):
    """Programs over vectors in which values may be wide."""

    def wide(self, shape: tuple[int, ...]) -> Value:
        """A new value of more than 8 bits."""
        y = self.value(shape)
        low, high = self.one(*WIDE)
        zero_point = self.one((low + high + 1) // 2, low, high, 0)
        self.values[y.name] = replace(y, quant_min=low, quant_max=high, zero_point=zero_point, scale=2.0**-9)
        return self.values[y.name]

    def rescaled(self, x: Value, y: Value) -> Value:
        span = (y.quant_max - y.quant_min) / (x.quant_max - x.quant_min)
        real = self.rng.uniform(0.3, 1.2) * span
        return self.append("requantize", [x], y, self.bounds(y), **self.ratio(real))

    def summed(self, op: str, a: Value, b: Value, y: Value) -> Value:
        spans = np.array([x.quant_max - x.quant_min for x in (a, b)], np.float64)
        real = self.rng.uniform(0.2, 0.9, 2) * (y.quant_max - y.quant_min) / spans
        bits = self.headroom(float((real * spans).sum()))
        return self.append(op, [a, b], y, {"headroom": bits, **self.bounds(y)}, **self.ratio(real, bits))

    def normed(self, x: Value, y: Value) -> Value:
        size = x.shape[-1]
        gamma = self.rng.integers(-(2**24), 2**24 + 1, size).astype(np.int32)
        shift = self.one(40, 46, 53)
        bits = min(shift + 12, 60)
        beta = self.rng.integers(-(2**bits), 2**bits, size)
        attrs = {"epsilon": self.one(0, 1, 5000), "shift": shift, "narrow": narrowing(x), **self.bounds(y)}
        return self.append("layer_norm", [x], y, attrs, gamma=gamma, beta=beta)


@st.composite
def streams(draw: st.DrawFn) -> Program:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    b = StreamBuilder(draw, rng)
    shape = (draw(st.integers(1, 3)), draw(st.sampled_from((1, 2, 7, 24))))
    x = b.value(shape)
    first, second = b.rescaled(x, b.wide(shape)), b.rescaled(x, b.wide(shape))
    total = b.summed(draw(st.sampled_from(("add", "subtract"))), first, second, b.wide(shape))
    mixed = b.summed("add", total, x, draw(st.sampled_from((b.wide, b.value)))(shape))
    normed = b.normed(total, draw(st.sampled_from((b.wide, b.value)))(shape))
    narrow = b.rescaled(mixed if mixed.wide else normed, b.value(shape))
    b.append("reshape", [normed], b.value(shape, normed), {"shape": shape})
    y = b.layer("linear", narrow, b.wide(shape), (shape[1], shape[1]), {})  # with any of these as residual
    output = b.rescaled(y, b.value(shape))
    mode = draw(st.sampled_from(MODES))
    return Program(values=b.values, ops=tuple(b.ops), input=x.name, output=output.name, requantize=mode)


@settings(max_examples=200, deadline=None)
@given(program=streams())
def test_streams_equal_unbounded_integers(program):
    validate(program)
    q = random_input(program, samples=2)
    expected = oracle.run(program, q)
    for name, levels in Interpreter(program, threads=1).trace(q).items():
        assert (levels.astype(object) == expected[name]).all(), name
        assert levels.dtype == program.values[name].dtype


def test_a_stream_is_the_same_from_disk(tmp_path):
    program = streams().example()
    save_program(program, tmp_path)
    q = random_input(program, samples=2)
    before, after = (Interpreter(p).run(q) for p in (program, load_program(tmp_path)))
    assert (before == after).all()


def test_a_layer_multiplies_no_wide_levels():
    """Even where the value that it reads is its residual too, which may be wide."""
    wide = Value(name="x", shape=(3,), scale=0.1, zero_point=0, quant_min=-2047, quant_max=2047)
    rescaled = {"multiplier": np.array([2**30], np.int32), "shift": np.zeros(1, np.int32)}
    rescaled["ratio"] = np.array([0.5], np.float32)
    op = Op(
        op="linear",
        inputs=("x", "x"),
        output="y",
        attrs={"act_min": -2047, "act_max": 2047, "headroom": 0},
        tensors={
            "weight": np.ones((3, 3), np.int8),
            "weight_scale": np.ones(1, np.float32),
            "weight_zero_point": np.zeros(1, np.int32),
            "bias": np.zeros(3, np.int32),
            **rescaled,
            **{f"residual_{name}": tensor for name, tensor in rescaled.items()},
        },
    )
    program = Program(values={"x": wide, "y": replace(wide, name="y")}, ops=(op,), input="x", output="y")
    with pytest.raises(ValueError, match=r"'y' \(linear\): reads or gives levels of more than 8 bits"):
        validate(program)
