"""Sums over values that int32 cannot hold are refused, at convert and where a kernel is prepared."""

import numpy as np
import pytest

from stages.integer.bounds import check_accumulators
from stages.integer.fixed_point import INT32_MAX
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program, Value
from stages.integer.sums import sum_bound

RATIO = {
    "multiplier": np.full(1, 2**30, np.int32),
    "shift": np.full(1, -20, np.int32),
    "ratio": np.full(1, 2.0**-21, np.float32),
}


def mean_of(size: int) -> Program:
    return _program((size,), (1,), "mean", ("x",), {"axes": (0,), "keepdim": True})


def matmul_over(size: int) -> Program:
    """x xᵀ of one row."""
    program = _program((1, size), (1, 1), "matmul", ("x", "t"), {})
    transposed = Op(op="reshape", inputs=("x",), output="t", attrs={"shape": (size, 1)})
    values = {**program.values, "t": _value("t", (size, 1))}
    return Program(values=values, ops=(transposed, *program.ops), input="x", output="y")


def _value(name: str, shape: tuple[int, ...]) -> Value:
    return Value(name=name, shape=shape, scale=0.1, zero_point=55, quant_min=0, quant_max=255)


def _program(shape, out, op, inputs, attrs) -> Program:
    attrs = {**attrs, "act_min": 0, "act_max": 255}
    ops = (Op(op=op, inputs=inputs, output="y", attrs=attrs, tensors=RATIO),)
    return Program(values={"x": _value("x", shape), "y": _value("y", out)}, ops=ops, input="x", output="y")


@pytest.mark.parametrize(("make", "largest"), [(mean_of, 255), (matmul_over, 200 * 200)])
def test_sums_up_to_int32_pass_and_larger_ones_name_the_operator(make, largest):
    most = INT32_MAX // largest
    fits, exceeds = make(most), make(most + 1)
    assert sum_bound(fits.ops[-1], fits) == most * largest
    check_accumulators(fits)
    for refuse in (check_accumulators, lambda program: prepare_kernel(program.ops[-1], program)):
        with pytest.raises(ValueError, match=r"'y' \(m.*\): its sum can reach \d+, beyond int32's .*Remedy"):
            refuse(exceeds)
