from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.integer.bounds import accumulator_bounds, check_accumulators, layer_accumulators
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.interpreter import Interpreter
from stages.integer.program import Op, Program, Value


def linear(
    weight: np.ndarray, bias: list[int], x: Value, weight_zero_point: int = 0, real: float = 1e-6
) -> Program:
    """One matrix product."""
    multiplier, shift = quantize_multiplier([real])
    y = Value(name="y", shape=(len(weight),), scale=1.0, zero_point=0, quant_min=-128, quant_max=127)
    op = Op(
        op="linear",
        inputs=("x",),
        output="y",
        attrs={"act_min": -128, "act_max": 127},
        tensors={
            "weight": weight.astype(np.int8),
            "weight_scale": np.ones(1, np.float32),
            "weight_zero_point": np.full(1, weight_zero_point, np.int32),
            "bias": np.array(bias, np.int32),
            "multiplier": multiplier,
            "shift": shift,
            "ratio": np.array([real], np.float32),
        },
    )
    return Program(values={"x": x, "y": y}, ops=(op,), input="x", output="y")


def levels(low: int, high: int, zero_point: int, size: int) -> Value:
    return Value(name="x", shape=(size,), scale=1.0, zero_point=zero_point, quant_min=low, quant_max=high)


@settings(max_examples=60, deadline=None)
@given(
    weight=st.lists(st.integers(-128, 127), min_size=3, max_size=3),
    bias=st.integers(-1000, 1000),
    zero_point=st.sampled_from([0, 3, 5]),
    weight_zero_point=st.sampled_from([0, -7, 127]),
)
def test_the_bound_is_reached_by_some_input_and_exceeded_by_none(
    weight: list[int], bias: int, zero_point: int, weight_zero_point: int
) -> None:
    """All corners of the input's cube are tried, and every prefix of every sum, with the bias and without."""
    x = levels(0, 5, zero_point, 3)
    program = linear(np.array([weight]), [bias], x, weight_zero_point)
    worst = 0
    for corner in product((0, zero_point, 5), repeat=3):
        terms = [(q - zero_point) * (w - weight_zero_point) for q, w in zip(corner, weight, strict=True)]
        sums = [sum(terms[:n]) for n in range(4)]
        worst = max([worst, *(abs(s) for s in sums), *(abs(s + bias) for s in sums)])
    assert accumulator_bounds(program.ops[0], program).tolist() == [worst]


def test_an_accumulator_beyond_int32_is_refused_by_name_and_bound() -> None:
    program = linear(np.array([[1], [127]]), [0, 2**31 - 200], levels(0, 255, 0, 1))
    bound = 2**31 - 200 + 127 * 255
    message = (
        rf"'y' \(linear\): the accumulator of output channel 1 can reach {bound}, beyond int32's 2147483647"
    )
    with pytest.raises(ValueError, match=message):
        check_accumulators(program)
    with pytest.raises(ValueError, match=rf"'y' \(linear\): an accumulator can reach {bound}"):
        Interpreter(program)


def test_a_sum_is_bounded_by_the_terms_of_its_mode() -> None:
    """Tripling 2^30, double rounding saturates before it multiplies by 3/4, single rounding after."""
    program = linear(np.array([[1]]), [2**30], levels(0, 255, 0, 1), real=3.0)
    op = program.ops[0]
    residual = {f"residual_{name}": op.tensors[name] for name in ("multiplier", "shift", "ratio")}
    op = replace(op, inputs=("x", "x"), attrs={**op.attrs, "headroom": 1}, tensors={**op.tensors, **residual})
    program = replace(program, ops=(op,))
    check_accumulators(replace(program, requantize="fixed_point"))
    bound = 2**31 - 1 + 3 * 255
    with pytest.raises(ValueError, match=rf"'y' \(linear\): the rescaled sum can reach {bound}, beyond"):
        check_accumulators(replace(program, requantize="fixed_point_single"))


def test_layers_are_listed_with_their_largest_accumulator() -> None:
    program = linear(np.array([[1, -2], [3, 4]]), [5, -6], levels(0, 255, 0, 2))
    assert layer_accumulators(program) == {"y": 7 * 255}


def test_an_accumulator_that_just_fits_is_accepted() -> None:
    check_accumulators(linear(np.array([[1]]), [2**31 - 1 - 255], levels(0, 255, 0, 1)))


def test_a_residual_sum_beyond_int32_is_refused() -> None:
    program = linear(np.array([[1]]), [2**30], levels(0, 255, 0, 1), real=0.9)
    op = program.ops[0]
    multiplier, shift = quantize_multiplier([0.9 * 2**23])
    tensors = {
        "residual_multiplier": multiplier,
        "residual_shift": shift,
        "residual_ratio": np.ones(1, np.float32),
    }
    op = replace(op, inputs=("x", "x"), attrs={**op.attrs, "headroom": 23}, tensors={**op.tensors, **tensors})
    with pytest.raises(
        ValueError, match=r"'y' \(linear\): the rescaled sum can reach \d+, beyond .* below 23"
    ):
        check_accumulators(replace(program, ops=(op,)))


def test_sums_that_float32_would_round_are_exact() -> None:
    """2^24 + 1 is no float32: the kernel has to notice, and use float64."""
    size = 2**24 // (255 * 127) + 40
    weight = np.full((1, size), 127)
    x = levels(0, 255, 0, size)
    q = np.full((1, size), 255, np.uint8)
    exact = 255 * 127 * size
    for off in (-1, 0, 1):
        bias = -exact + off
        program = replace(linear(weight, [bias], x, real=1.0), requantize="fixed_point")
        q[0, -1] = 254  # an odd sum
        assert Interpreter(program).run(q).tolist() == [[max(-128, off - 127)]]
