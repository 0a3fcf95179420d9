"""How groups share vectors, and what becomes of their weights."""

from __future__ import annotations

import numpy as np
import pytest

from stages.backends.native import Native
from stages.backends.native_kernels.grouped import GroupedBy, GroupShape, by_vectors, join, lanes
from stages.backends.native_kernels.planner import Pins, Plan
from stages.backends.native_kernels.segments import parts
from stages.backends.native_kernels.structures import StepKind
from stages.backends.reference import Reference
from stages.integer.program import Op, Program, Value
from tests.stages.integer.strategies import random_input

UNITS, LANES, DEPTHWISE = GroupedBy.UNITS, GroupedBy.LANES, GroupedBy.DEPTHWISE


def shaped(
    groups: int, inputs: int, outputs: int, kernel: tuple[int, int] = (3, 3), stride: int = 1
) -> GroupShape:
    return GroupShape(groups, inputs, outputs, kernel, (stride, stride), (1, 1))


@pytest.mark.parametrize(
    ("shape", "by", "joined"),
    [
        (shaped(1, 64, 64), UNITS, 1),
        (shaped(2, 96, 128, (5, 5)), UNITS, 1),  # AlexNet
        (shaped(32, 4, 4), LANES, 4),  # ResNeXt-50 32x4d, stage by stage
        (shaped(32, 8, 8), LANES, 2),
        (shaped(32, 16, 16), UNITS, 1),
        (shaped(32, 32, 32), UNITS, 1),
        (shaped(19, 8, 8), LANES, 1),  # RegNetX-200MF, whose groups none divides
        (shaped(7, 24, 24), UNITS, 1),  # RegNetX-1.6GF
        (shaped(3, 80, 20, (1, 1)), UNITS, 1),  # ShuffleNet-v1
        (shaped(48, 1, 2, (7, 7), 2), DEPTHWISE, 8),  # FastViT
        (shaped(48, 1, 2, (3, 3), 2), LANES, 8),
        (shaped(32, 1, 4), UNITS, 4),
        (shaped(64, 1, 1), DEPTHWISE, 16),
        (shaped(64, 1, 1, (1, 1)), LANES, 16),
        (shaped(64, 1, 1, (9, 1)), LANES, 16),  # more rows than a depthwise step has room for
    ],
)
def test_what_takes_least_is_chosen(shape: GroupShape, by: GroupedBy, joined: int) -> None:
    assert shape.by(zero_points=False) is by
    assert shape.joined() == joined


def test_weights_with_zero_points_leave_no_sum_to_lanes() -> None:
    assert shaped(32, 4, 4).by(zero_points=True) is UNITS
    assert shaped(64, 1, 1).by(zero_points=True) is DEPTHWISE


def test_joined_groups_have_zero_points_between_them() -> None:
    rng = np.random.default_rng(0)
    shape = shaped(6, 5, 4)
    weight, zero_point = rng.integers(-128, 128, (24, 5, 3, 3)), rng.integers(-128, 128, 24)
    units = join(shape, weight, zero_point)
    assert shape.joined() == 3
    assert units.shape == (2, 12, 15, 3, 3)
    for unit, dense in enumerate(units):
        for o, row in enumerate(dense):
            group = o // 4
            assert (row[5 * group : 5 * group + 5] == weight[12 * unit + o]).all()
            others = np.delete(row, range(5 * group, 5 * group + 5), axis=0)
            assert (others == zero_point[12 * unit + o]).all()


def test_lanes_read_their_own_groups_bytes() -> None:
    pins = Pins()
    fields = dict(lanes(shaped(8, 6, 8), np.ones((64, 6, 3, 3), np.int64), pins))
    assert (fields["channels"], fields["sum_channels"], fields["target_channels"]) == (8, 12, 64)
    (table,) = (a for a in pins.arrays if a.dtype == np.uint8)
    assert table.shape == (2, 16, 4)
    assert (table[0, :8] == [0, 1, 2, 3]).all() and (table[0, 8:] == [6, 7, 8, 9]).all()
    assert (table[1, :8] == [4, 5, 5, 5]).all()  # the last two have weights of 0
    assert table.max() < 16


def test_each_unit_fills_vectors_of_its_own() -> None:
    assert by_vectors(np.arange(1, 41), 2).tolist() == [
        *range(1, 21),
        *[0] * 12,
        *range(21, 41),
        *[0] * 12,
    ]


def grouped(groups: int, inputs: int, outputs: int, kernel: int) -> Program:
    rng = np.random.default_rng(0)
    tensors = {
        "weight": rng.integers(-128, 128, (groups * outputs, inputs, kernel, kernel)).astype(np.int8),
        "weight_scale": np.ones(1, np.float32),
        "weight_zero_point": np.zeros(1, np.int32),
        "bias": rng.integers(-99, 100, groups * outputs).astype(np.int32),
        "multiplier": np.array([2**30], np.int32),
        "shift": np.array([-9], np.int32),
        "ratio": np.array([2.0**-10], np.float32),
    }
    attrs = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": groups}
    attrs |= {"act_min": -128, "act_max": 127}
    levels = {"scale": 0.1, "zero_point": -5, "quant_min": -128, "quant_max": 127}
    size = 11 + 3 - kernel
    values = {
        "x": Value(name="x", shape=(groups * inputs, 11, 11), **levels),
        "y": Value(name="y", shape=(groups * outputs, size, size), **levels),
    }
    op = Op(op="conv2d", inputs=("x",), output="y", attrs=attrs, tensors=tensors)
    return Program(values=values, ops=(op,), input="x", output="y", requantize="float")


@pytest.mark.parametrize(
    ("program", "kinds"),
    [
        (grouped(50, 16, 17, 3), [StepKind.CONV]),
        (grouped(31, 8, 8, 3), [StepKind.LANES]),
        (grouped(40, 1, 2, 7), [StepKind.COPY, StepKind.DEPTHWISE]),
        (grouped(17, 1, 3, 5), [StepKind.COPY, StepKind.DEPTHWISE]),
    ],
)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_groups_is_one_step(program: Program, kinds: list[StepKind], threads: int) -> None:
    (plan,) = parts(program, keep=False)
    assert isinstance(plan, Plan)
    assert [step.kind for step in plan.steps][1:-1] == kinds
    q = random_input(program, 1)
    expected = Reference(threads=1).compile(program).run(q)
    assert (Native(threads=threads, fallback=False).compile(program).run(q) == expected).all()
