"""A plan walked as the engine would, byte range by byte range, without running it.

Written from the engine's C++ alone, and sharing nothing with the planner but the structures that both hand
over: each range that a step reads or writes is checked against the memory that it addresses. Levels lie in
their image; what vector loads read beyond lies in the arena; what is written stays in the pixels of
the target; constants lie within one of the arrays that the plan keeps alive, what samples have in a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tests.stages.backends.native_kernels.walk_levels import LEVELS
from tests.stages.backends.native_kernels.walk_memory import OutsideError, Walk
from tests.stages.backends.native_kernels.walk_rows import ROWS
from tests.stages.backends.native_kernels.walk_steps import NAMES, STEPS

__all__ = ["NAMES", "OutsideError", "walk", "walk_parts"]

WALKS = STEPS | LEVELS | ROWS


def walk(plan: Any, sample_bytes: Sequence[int]) -> None:
    """Check every range of a plan.

    Args:
        plan: of the native engine.
        sample_bytes: how many bytes a sample has in each external array, inputs before outputs.

    Raises:
        OutsideError: names the step, what it touches, and where that ends.
    """
    memory = Walk(plan, sample_bytes)
    _images(memory)
    for number, step in enumerate(plan.steps):
        memory.where = f"step {number}"
        memory.that(0 <= step.kind < len(NAMES), f"is of kind {step.kind}")
        memory.where = f"step {number}, {NAMES[step.kind]}"
        for name in ("source", "residual", "target"):
            index = getattr(step, name)
            memory.that(-1 <= index < len(memory.images), f"{name} {index} of {len(memory.images)} images")
        WALKS[NAMES[step.kind]](memory, step)
    memory.where = "images"
    _apart(memory)


def walk_parts(parts: Sequence[Any], program: Any) -> None:
    """Walk all plans among a program's parts; each level of an array is a byte, a wide one four."""
    for part in parts:
        if hasattr(part, "steps"):
            names = (*part.inputs, *part.outputs)
            values = [program.values[name] for name in names]
            walk(part, [math.prod(value.shape) * value.dtype.itemsize for value in values])


def _images(memory: Walk) -> None:
    for number, (image, raw) in enumerate(zip(memory.images, memory.plan.images, strict=True)):
        memory.where = f"image {number}"
        memory.that(image.height > 0 and image.width > 0 and image.channels > 0, "has no pixels")
        memory.that(image.border_h >= 0 and image.border_w >= 0, "has a border below 0")
        memory.that(image.size in (1, 4), f"has levels of {image.size} bytes")
        memory.that(image.stride >= image.channels * image.size, "has pixels that overlap")
        memory.that(image.size == 1 or image.border_h == image.border_w == 0, "is wide, and has a border")
        memory.that(image.start >= 0 and image.end <= memory.arena, f"ends at {image.end} of {memory.arena}")
        memory.that(image.size == 4 or 0 <= raw.zero_point <= 255, f"has {raw.zero_point} in its border")


def _apart(memory: Walk) -> None:
    """Images whose first and last steps overlap share no byte, or all and one of them is never written."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for number, step in enumerate(memory.plan.steps):
        for index in {step.source, step.residual, step.target} - {-1}:
            first.setdefault(index, number)
            last[index] = number
    known, written = sorted(first), {step.target for step in memory.plan.steps}
    for place, a in enumerate(known):
        for b in known[:place]:
            if first[a] <= last[b] and first[b] <= last[a]:
                one, two = memory.images[a], memory.images[b]
                same = (one.start, one.end) == (two.start, two.end) and len({a, b} & written) < 2
                memory.that(same or one.end <= two.start or two.end <= one.start, f"{a} and {b} share bytes")
