from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from stages.integer.program import Op, Program, Value
from stages.integer.validate import validate
from tests.stages.integer.strategies import MODES, programs


@settings(max_examples=60, deadline=None)
@given(program=programs(modes=MODES))
def test_valid_programs_pass_and_lose_their_validity_with_any_tensor_or_operator(program: Program) -> None:
    validate(program)
    for i, op in enumerate(program.ops):
        for name in op.tensors:
            tensors = {key: tensor for key, tensor in op.tensors.items() if key != name}
            with pytest.raises(ValueError, match=rf"'{op.output}' \({op.op}\): tensor '{name}' is missing"):
                validate(_with(program, i, replace(op, tensors=tensors)))
    with pytest.raises(ValueError, match=r"is not computed before|no operator computes it"):
        validate(replace(program, ops=tuple(op for op in program.ops if op.output != program.output)))


def _with(program: Program, index: int, op: Op) -> Program:
    return replace(program, ops=(*program.ops[:index], op, *program.ops[index + 1 :]))


def _program() -> Program:
    levels = {"scale": 0.1, "zero_point": 3, "quant_min": 0, "quant_max": 254}
    shapes = {"x": (2, 4, 4), "pool": (2, 2, 2), "y": (3, 2, 2)}
    values = {name: Value(name=name, shape=shape, **levels) for name, shape in shapes.items()}
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "ceil_mode": False}
    conv = {
        "stride": (1, 1),
        "padding": (0, 0),
        "dilation": (1, 1),
        "groups": 1,
        "act_min": 0,
        "act_max": 254,
    }
    tensors = {
        "weight": np.ones((3, 2, 1, 1), np.int8),
        "weight_scale": np.ones(3, np.float32),
        "weight_zero_point": np.zeros(1, np.int32),
        "bias": np.zeros(3, np.int32),
        "multiplier": np.full(3, 2**30, np.int32),
        "shift": np.zeros(3, np.int32),
        "ratio": np.full(3, 0.5, np.float32),
    }
    ops = (
        Op(op="max_pool2d", inputs=("x",), output="pool", attrs=pool),
        Op(op="conv2d", inputs=("pool",), output="y", attrs=conv, tensors=tensors),
    )
    return Program(values=values, ops=ops, input="x", output="y")


def _value(of: str, **changes: Any) -> Callable[[Program], Program]:
    return lambda p: replace(p, values={**p.values, of: replace(p.values[of], **changes)})


def _attrs(index: int, **changes: Any) -> Callable[[Program], Program]:
    return lambda p: _with(p, index, replace(p.ops[index], attrs={**p.ops[index].attrs, **changes}))


def _tensor(**changes: Any) -> Callable[[Program], Program]:
    return lambda p: _with(p, 1, replace(p.ops[1], tensors={**p.ops[1].tensors, **changes}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: replace(p, requantize="flaot"), r"requantize: did you mean 'float'\?"),
        (
            lambda p: replace(p, ops=p.ops[::-1]),
            r"'y' .*: reads 'pool', which is not computed before",
        ),
        (lambda p: replace(p, ops=p.ops + p.ops[1:]), r"'y' \(conv2d\): 'y' is computed twice"),
        (lambda p: replace(p, output="z"), r"output 'z': no operator computes it; .*valid: pool, x, y"),
        (lambda p: replace(p, input="z"), "input 'z': not among the values"),
        (lambda p: _with(p, 0, replace(p.ops[0], op="maxpool")), "unknown operator 'maxpool'; did you mean"),
        (lambda p: _with(p, 0, replace(p.ops[0], inputs=("x", "x"))), r"'pool' .*: 2 inputs: must be 1\.\.1"),
        (_value("x", name="z"), "value 'x': is named 'z'"),
        (_value("x", scale=0.0), r"value 'x': scale=0\.0: must be positive and finite"),
        (
            _value("x", zero_point=255),
            r"'x': quant_min=0, zero_point=255, .* must ascend within 0\.\.255",
        ),
        (_value("x", quant_max=2**16), r"value 'x': .*quant_max=65536: must ascend within 0\.\.65535"),
        (
            _value("y", shape=(3, 2, 1)),
            r"'y' .*: gives shape \(3, 2, 2\), but .* as \(3, 2, 1\)",
        ),
        (_value("pool", zero_point=4), r"'pool' \(max_pool2d\): moves levels as they are"),
        (_attrs(0, stride=(0, 1)), r"'pool' .*: stride=\(0, 1\): must be two integers"),
        (_attrs(0, padding=(2, 0)), r"'pool' .*: padding=\(2, 0\): must be at most half of kernel"),
        (_attrs(0, kernel=(5, 5)), r"'pool' .*: a window of 5 does not fit in 4"),
        (_attrs(1, groups=0), r"'y' .*: groups=0: must be at least 1"),
        (_attrs(1, groups=2), r"'y' .*: weight of shape \(3, 2, 1, 1\) with groups=2 for 2 channels"),
        (_attrs(1, act_max=255), r"'y' .*: act_min=0, act_max=255: must ascend within .* 0\.\.254"),
        (_tensor(bias=np.zeros(3, np.int64)), r"'bias' is int64 \(3,\): must be int32 \(3,\)"),
        (_tensor(ratio=np.ones(1, np.float32)), r"'ratio' is float32 \(1,\): must be float32 \(3,\)"),
        (_tensor(multiplier=np.full(3, 5, np.int32)), r"multiplier has 5: must be 0 or 2\^30\.\.2\^31-1"),
        (_tensor(shift=np.full(3, 31, np.int32)), r"shift spans 31\.\.31: must be within -31\.\.30"),
        (_tensor(weight=np.ones((3, 2, 1, 1), np.int16)), "'weight' is int16 .* must be int8 or uint8"),
        (_tensor(weight_zero_point=np.full(1, 128, np.int32)), r"weight_zero_point spans 128\.\.128"),
    ],
)
def test_what_is_wrong_is_named(change: Callable[[Program], Program], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validate(change(_program()))
