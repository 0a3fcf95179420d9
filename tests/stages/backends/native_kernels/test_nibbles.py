from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.native_kernels.grouped import GroupedBy, GroupShape
from stages.backends.native_kernels.instruction_sets import available
from stages.backends.native_kernels.library import cpu_features, find_compiler
from stages.backends.native_kernels.nibbles import EACH, as_nibbles, nibble_fields, pack_nibbles
from stages.backends.native_kernels.planner import Pins, Plan
from stages.backends.native_kernels.segments import parts
from stages.backends.native_kernels.weights import levels
from stages.integer.program import Op, Program
from tests.stages.backends.native_kernels.few_bits import few_bits, in_nibbles
from tests.stages.backends.native_kernels.group_kinds import grouped, groups
from tests.stages.backends.native_kernels.test_kinds import compared
from tests.stages.backends.native_kernels.walk import walk_parts

COMPILER = find_compiler()
HERE = list(available(cpu_features(COMPILER))) if COMPILER else []


@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@settings(max_examples=250, deadline=None)
@given(program=st.one_of(few_bits(), groups(), grouped()), threads=st.integers(1, 3))
def test_packed_layers_are_the_references(program: Program, threads: int) -> None:
    with in_nibbles():
        for isa in HERE:
            compared(program, threads, isa)


@settings(max_examples=150, deadline=None)
@given(program=st.one_of(few_bits(), groups(), grouped()), keep=st.booleans(), panels=st.booleans())
def test_plans_of_packed_layers_stay_within_their_memory(program: Program, keep: bool, panels: bool) -> None:
    with in_nibbles():
        found = parts(program, keep=keep, panels=panels)
    walk_parts(found, program)
    steps = [step for plan in found if isinstance(plan, Plan) for step in plan.steps]
    layers = [op for op in program.ops if "weight" in op.tensors]
    fits = [fits_four_bits(op.tensors["weight"]) and not share_vectors(op) for op in layers]
    if any(step.nibbles for step in steps) != any(fits):  # joined groups do where zero points fit too
        assert any(map(share_vectors, layers))


def fits_four_bits(weight: np.ndarray) -> bool:
    return bool((np.ptp(weight.astype(int).reshape(len(weight), -1), axis=1) < 16).all())


def share_vectors(op: Op) -> bool:
    """Whether a convolution's groups do: by lanes, or several joined."""
    if op.op != "conv2d" or op.attrs["groups"] == 1:
        return False
    _, zero_point = levels(op)
    shape = GroupShape.of(op)
    return shape.by(zero_points=bool(zero_point.any())) is not GroupedBy.UNITS or shape.joined() > 1


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 150), st.integers(1, 20), st.sampled_from([(1, 1), (3, 2)]), st.integers(0, 99))
def test_packed_weights_stand_where_the_engine_looks(
    outputs: int, inputs: int, kernel: tuple[int, int], seed: int
) -> None:
    """Block by block: kernel row, column, eight inputs, vector, output in it, four inputs in each half."""
    weight = np.random.default_rng(seed).integers(0, 16, (outputs, inputs, *kernel))
    packed = iter(pack_nibbles(weight).view(np.uint8).tolist())
    vectors, first = -(-outputs // 16), 0

    def at(*place: int) -> int:
        return int(weight[place]) if place[0] < outputs and place[1] < inputs else 0

    while first < vectors:
        block = 4 if vectors - first >= 4 else 2 if vectors - first >= 2 else 1
        for row in range(kernel[0]):
            for column in range(kernel[1]):
                for i in range(0, inputs, EACH):
                    for o in range(16 * first, 16 * (first + block)):
                        for k in range(i, i + 4):
                            expected = at(o, k, row, column) + 16 * at(o, k + 4, row, column)
                            assert next(packed) == expected
        first += block
    assert next(packed, None) is None


def test_half_the_bytes_are_kept() -> None:
    pins = Pins()
    nibble_fields(np.zeros((1, 1000, 1280, 1, 1), np.int64), pins)
    assert [array.nbytes for array in pins.arrays] == [1008 * 1280 // 2]


ANY = Pins(program_weights=2**24)


def test_sixteen_values_in_a_row_fit_wherever_they_lie() -> None:
    """Channel by channel; one more in any channel does not."""
    weight = (
        np.repeat(np.arange(512)[:, None] % 16, 128, axis=1) + np.array([-128, -8, 0, 112] * 128)[:, None]
    )
    weight[:, 0] = weight.min(axis=1) // 16 * 16
    weight[:, 1] = weight[:, 0] + 15
    weight = np.clip(weight, weight[:, :1], weight[:, 1:2]).reshape(512, 128, 1, 1)
    zero_point = np.arange(512) - 256
    found = as_nibbles(weight, zero_point, 1, ANY)
    assert found is not None
    levels, zero_points = found
    assert levels.min() == 0
    assert levels.max() == 15
    assert (levels - zero_points.reshape(-1, 1, 1, 1) == weight - zero_point.reshape(-1, 1, 1, 1)).all()
    weight[300, 5] = weight[300, 0] + 16
    assert as_nibbles(weight, zero_point, 1, ANY) is None


@pytest.mark.parametrize(
    ("shape", "pixels", "program", "panels", "packs"),
    [
        ((256, 256, 1, 1), 1, 0, False, True),
        ((256, 256, 1, 1), 3, 0, False, True),
        ((256, 256, 1, 1), 4, 0, False, False),  # in a second-level cache
        ((256, 256, 1, 1), 8, 2**20, False, True),
        ((256, 256, 1, 1), 9, 2**20, False, False),
        ((4096, 4096, 1, 1), 64, 2**24, False, True),
        ((4096, 4096, 1, 1), 65, 2**24, False, False),
        ((4096, 4095, 1, 1), 9, 2**24, False, False),
        ((255, 256, 1, 1), 1, 2**20, False, False),
        ((2**15, 4, 1, 1), 1, 2**20, False, False),  # half would be zeros
        ((16, 16, 3, 3), 1024, 0, True, True),  # AVX2
        ((16, 40, 1, 1), 1024, 0, True, False),
        ((32, 3, 7, 7), 1024, 0, True, False),
    ],
)
def test_what_gains_is_packed(
    shape: tuple[int, ...], pixels: int, program: int, panels: bool, packs: bool
) -> None:
    pins = Pins(panels=panels, program_weights=program)
    weight = np.random.default_rng(0).integers(-7, 8, shape)
    assert (as_nibbles(weight, np.zeros(len(weight), np.int64), pixels, pins) is not None) == packs
