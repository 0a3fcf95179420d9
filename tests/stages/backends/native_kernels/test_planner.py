from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.native_kernels.planner import SLACK, Plan
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
