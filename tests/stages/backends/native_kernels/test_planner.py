import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.native_kernels.planner import SLACK, Pins, Plan
from stages.backends.native_kernels.segments import parts
from stages.backends.native_kernels.structures import Image, StepKind
from stages.integer.program import Program
from tests.stages.integer.strategies import MODES, programs


def spans(plan: Plan) -> list[tuple[int, int, Image]]:
    """First and last step that touches each image."""
    touched: dict[int, list[int]] = {}
    for number, step in enumerate(plan.steps):
        for index in (step.source, step.residual, step.target):
            if index >= 0:
                touched.setdefault(index, []).append(number)
    return [(min(steps), max(steps), plan.images[index]) for index, steps in touched.items()]


@settings(max_examples=200, deadline=None)
@given(program=programs(modes=MODES), keep=st.booleans())
def test_images_that_live_together_lie_apart(program: Program, keep: bool) -> None:
    for plan in parts(program, keep=keep):
        if not isinstance(plan, Plan):
            continue
        alive = spans(plan)
        assert len(alive) == len(plan.images)
        for i, (born, dies, image) in enumerate(alive):
            assert image.offset % 64 == 0
            assert image.offset + image.bytes + SLACK <= plan.arena_bytes
            for other_born, other_dies, other in alive[:i]:
                together = born <= other_dies and other_born <= dies
                overlap = (
                    image.offset < other.offset + other.bytes and other.offset < image.offset + image.bytes
                )
                assert not (together and overlap)


@pytest.mark.parametrize("dtype", [ctypes.c_int8, ctypes.c_uint16, ctypes.c_int64])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 1000)])
def test_constants_begin_with_a_line_of_the_cache(dtype: type, shape: tuple[int, ...]) -> None:
    pins, array = Pins(), np.arange(np.prod(shape, dtype=int)).reshape(shape) % 100
    for _ in range(5):
        pointer = pins(array, dtype)
        held = pins.arrays[-1]
        assert ctypes.cast(pointer, ctypes.c_void_p).value == held.ctypes.data
        assert held.ctypes.data % 64 == 0
        assert held.dtype == np.dtype(dtype)
        assert np.array_equal(held, array)


@settings(max_examples=100, deadline=None)
@given(program=programs(modes=MODES))
def test_borders_hold_what_convolutions_pad(program: Program) -> None:
    for plan in parts(program, keep=False):
        if isinstance(plan, Plan):
            for step in plan.steps:
                if step.kind in (StepKind.CONV, StepKind.DEPTHWISE):
                    image = plan.images[step.source]
                    assert image.border_h >= step.pad_h
                    assert image.border_w >= step.pad_w


@settings(max_examples=100, deadline=None)
@given(program=programs(modes=MODES))
def test_parts_pass_on_just_what_is_read_later(program: Program) -> None:
    """Every input is there when its part begins, and the program's output in the end."""
    known = {program.input}
    for part in parts(program, keep=False):
        reads = set(part.inputs) if isinstance(part, Plan) else set(part.op.inputs)
        assert reads <= known
        known |= set(part.outputs) if isinstance(part, Plan) else {part.op.output}
        assert set(part.dead) <= known
        known -= set(part.dead)
    assert program.output in known
