"""Layers with an accumulator and a ratio for each group of input channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.integer.accumulate import layer_output
from stages.integer.bounds import check_accumulators
from stages.integer.fixed_point import (
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
)
from stages.integer.format import load_program, save_program
from stages.integer.interpreter import Interpreter
from stages.integer.program import Op, Program, Value
from stages.integer.single_rounding import multiply_by_quantized_multiplier_single
from stages.integer.validate import validate
from tests.stages.integer.strategies import MODES

HEADROOM = 6


@st.composite
def group_programs(draw) -> Program:
    """One group_linear or 1×1 group_conv2d with random tensors, and a residual (its own input) or none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    groups, size = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    residual = draw(st.booleans())
    out = groups * size if residual else draw(st.integers(1, 4))
    image = draw(st.sampled_from([(), (2, 3)]))
    rows = () if image else draw(st.sampled_from([(), (2,), (3, 2)]))
    levels = {"scale": 0.1, "zero_point": 3, "quant_min": -128, "quant_max": 127}
    shapes = {"x": (*rows, groups * size, *image), "y": (*rows, out, *image)}
    values = {name: Value(name=name, shape=shape, **levels) for name, shape in shapes.items()}
    ratio = rng.uniform(0.001, 0.02, groups * out)
    multiplier, shift = quantize_multiplier(ratio * 2.0**HEADROOM)
    tensors = {
        "weight": rng.integers(-127, 128, (groups * out, size, *(1,) * len(image))).astype(np.int8),
        "weight_scale": np.ones(groups * out, np.float32),
        "weight_zero_point": rng.integers(-5, 6, groups * out).astype(np.int32),
        "bias": rng.integers(-500, 500, out).astype(np.int32),
        "multiplier": multiplier,
        "shift": shift,
        "ratio": ratio.astype(np.float32),
    }
    if residual:
        multiplier, shift = quantize_multiplier(np.array([0.3 * 2.0**HEADROOM]))
        tensors |= {"residual_multiplier": multiplier, "residual_shift": shift}
        tensors["residual_ratio"] = np.array([0.3], np.float32)
    window = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)} if image else {}
    op = Op(
        op="group_conv2d" if image else "group_linear",
        inputs=("x", "x") if residual else ("x",),
        output="y",
        attrs={**window, "groups": groups, "headroom": HEADROOM, "act_min": -100, "act_max": 120},
        tensors=tensors,
    )
    mode = draw(st.sampled_from(MODES))
    return Program(values=values, ops=(op,), input="x", output="y", requantize=mode)


def expected(program: Program, q: np.ndarray) -> np.ndarray:
    """The program's table, group by group and channel by channel, over (I, positions)."""
    (op,) = program.ops
    t, y, groups = op.tensors, program.values["y"], op.attrs["groups"]
    out, size = len(t["bias"]), t["weight"].shape[1]
    x = q.astype(np.int64) - program.values["x"].zero_point
    fixed = program.requantize != "float"
    single = program.requantize == "fixed_point_single"
    multiply = multiply_by_quantized_multiplier_single if single else multiply_by_quantized_multiplier
    rows = []
    for o in range(out):
        total = np.zeros(x.shape[1], np.int64 if fixed else np.float32)
        for g in range(groups):
            row = g * out + o
            weight = t["weight"][row].reshape(-1).astype(np.int64) - t["weight_zero_point"][row]
            acc = weight @ x[g * size : (g + 1) * size] + (t["bias"][o] if g == 0 else 0)
            if fixed:
                total += multiply(acc, t["multiplier"][row], t["shift"][row])
            else:
                total += acc.astype(np.float32) * t["ratio"][row]
        if len(op.inputs) == 2:
            if fixed:
                total += multiply(x[o], t["residual_multiplier"], t["residual_shift"])
            else:
                total += x[o].astype(np.float32) * t["residual_ratio"]
        if single:
            rounded = (total + 2 ** (HEADROOM - 1)) // 2**HEADROOM
        else:
            rounded = rounding_divide_by_pot(total, HEADROOM) if fixed else np.rint(total)
        rows.append(np.clip(rounded + y.zero_point, op.attrs["act_min"], op.attrs["act_max"]))
    return np.stack(rows).astype(y.dtype)


@settings(deadline=None)
@given(program=group_programs(), seed=st.integers(0, 1000))
def test_groups_are_rescaled_and_added(program, seed, tmp_path_factory):
    directory = tmp_path_factory.mktemp("program")
    save_program(program, directory)
    loaded = load_program(directory)
    check_accumulators(loaded)
    shape = program.values["x"].shape
    q = np.random.default_rng(seed).integers(-128, 128, (5, *shape)).astype(np.int8)
    found = Interpreter(loaded).run(q)
    channel = 1 if program.ops[0].op == "group_conv2d" else -1
    x, y = (np.moveaxis(levels, channel, 0).reshape(levels.shape[channel], -1) for levels in (q, found))
    assert (y == expected(program, x)).all()


def program_with(**changes) -> Program:
    value = {"scale": 1.0, "zero_point": 0, "quant_min": -127, "quant_max": 127}
    rows = np.ones(4, np.float32)
    multiplier, shift = quantize_multiplier(rows)
    tensors = {
        "weight": np.ones((4, 3), np.int8),
        "weight_scale": rows,
        "weight_zero_point": np.zeros(4, np.int32),
        "bias": np.zeros(2, np.int32),
        "multiplier": multiplier,
        "shift": shift,
        "ratio": rows,
    }
    attrs = {"groups": 2, "headroom": 0, "act_min": -127, "act_max": 127}
    op = Op(op="group_linear", inputs=("x",), output="y", attrs=attrs, tensors=tensors | changes)
    values = {name: Value(name=name, shape=shape, **value) for name, shape in (("x", (6,)), ("y", (2,)))}
    return Program(values=values, ops=(op,), input="x", output="y")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"bias": np.zeros(4, np.int32)}, r"tensor 'bias' is int32 \(4,\): must be int32 \(2,\)"),
        ({"weight": np.ones((4, 2), np.int8)}, r"weight of shape \(4, 2\) with groups=2 for an input of"),
    ],
)
def test_tensors_of_other_shapes_are_refused(tensors, message):
    validate(program_with())
    with pytest.raises(ValueError, match=rf"'y' \(group_linear\): {message}"):
        validate(program_with(**tensors))


def test_sums_beyond_int32_are_refused():
    with pytest.raises(
        ValueError, match=r"'y' \(group_linear\): the accumulator of output channel 1 can reach"
    ):
        check_accumulators(program_with(bias=np.array([0, 2**31 - 300], np.int32)))
    multiplier, shift = quantize_multiplier(np.full(4, 2.0**22))
    with pytest.raises(
        ValueError, match=r"'y' \(group_linear\): the rescaled sum can reach \d+, beyond int32"
    ):
        check_accumulators(program_with(multiplier=multiplier, shift=shift))


def test_a_sum_of_many_groups_does_not_depend_on_how_many_samples_there_are() -> None:
    """In float32 the order of a sum decides its last bit: groups are added one after the other."""
    rng = np.random.default_rng(0)
    groups, levels = 40, {"zero_point": 0, "quant_min": 0, "quant_max": 255}
    values = {
        "x": Value(name="x", shape=(groups,), scale=1.0, **levels),
        "y": Value(name="y", shape=(1,), scale=1.0, **levels),
    }
    ratio = rng.uniform(0.0001, 0.002, groups)
    multiplier, shift = quantize_multiplier(ratio)
    tensors = {
        "weight": np.full((groups, 1), 11, np.int8),
        "weight_scale": np.ones(groups, np.float32),
        "weight_zero_point": np.zeros(groups, np.int32),
        "bias": np.zeros(1, np.int32),
        **{"multiplier": multiplier, "shift": shift, "ratio": ratio.astype(np.float32)},
    }
    attrs = {"groups": groups, "headroom": 0, "act_min": 0, "act_max": 255}
    op = Op(op="group_linear", inputs=("x",), output="y", attrs=attrs, tensors=tensors)
    q = rng.integers(0, 256, (2000, groups)).astype(np.uint8)
    program = Program(values=values, ops=(op,), input="x", output="y", requantize="float")
    output = layer_output(op, program)
    sums = 11 * q.T.astype(np.float32)
    together = output(sums)
    alone = np.concatenate([output(sums[:, i : i + 1]) for i in range(len(q))], axis=1)
    assert (together == alone).all()
    terms = (sums * ratio.astype(np.float32)[:, None]).astype(np.float32)
    total = terms[0].copy()
    for one in terms[1:]:
        total += one
    assert (together[0] == np.clip(np.rint(total), 0, 255)).all()
