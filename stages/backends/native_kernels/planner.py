"""From operators to the engine's steps, over images in one arena.

Images are uint8 (int32 where levels are wide) and channels last, with a border as wide as any convolution
that reads them pads, so that no step asks where an image ends. Memory is given out by lifetime: a step's
images lie apart from all that is read later.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.structures import EngineStep, Image, StepKind
from stages.integer.program import Op, Program, Value

ALIGNMENT = 64
SLACK = 256
"""Bytes behind the arena that vector loads may touch."""


@dataclass(frozen=True)
class Draft:
    """A step before its images have places: names of values, and the other fields."""

    kind: StepKind
    target: str
    source: str = ""
    residual: str = ""
    fields: tuple[tuple[str, Any], ...] = ()
    pads: tuple[int, int] = (0, 0)
    """Border that the source needs."""
    relabels: bool = False
    """Whether it gives the levels of its source in their order, rows first and channels last."""
    owner: str = ""
    """The value whose operator it is a step of, where the target is another."""


@dataclass(frozen=True)
class Plan:
    """Steps that take external arrays to external arrays, in the order of `inputs` and `outputs`."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: ctypes.Array[EngineStep]
    images: ctypes.Array[Image]
    names: tuple[str, ...]
    """The value whose operator each step is of; of an input or output, its own."""
    arena_bytes: int
    pinned: tuple[NDArray[Any], ...]
    """Arrays that steps point to."""
    dead: tuple[str, ...]
    """Values that nothing reads after the plan has run."""


class Pins:
    """Arrays that must live as long as the steps that point to them.

    Args:
        dot_offset: what the products of the engine that gets them take away from levels first.
        panels: whether its convolutions go by panels.
        program_weights: how many weights the layers of the program have together.
    """

    def __init__(self, *, dot_offset: int = 0, panels: bool = False, program_weights: int = 0) -> None:
        self.dot_offset = dot_offset
        self.panels = panels
        self.program_weights = program_weights
        self.arrays: list[NDArray[Any]] = []

    def __call__(self, array: NDArray[Any], ctype: type) -> Any:
        """A pointer to the array's copy of that type, from a cache line's first byte on."""
        held = _aligned(np.asarray(array).size, np.dtype(ctype)).reshape(np.shape(array))
        held[...] = array
        self.arrays.append(held)
        return held.ctypes.data_as(ctypes.POINTER(ctype))


def plan(
    program: Program,
    drafts: Sequence[Draft],
    inputs: Sequence[str],
    outputs: Sequence[str],
    pins: Pins,
    tokens: frozenset[str] = frozenset(),
    dead: tuple[str, ...] = (),
) -> Plan:
    """Places for images, and steps that name them.

    Args:
        program: whose values the arrays hold, in the shapes of images.
        drafts: the operators' steps, in order.
        inputs: values that come from arrays.
        outputs: values that go to arrays.
        pins: what the drafts point to.
        tokens: values whose arrays have channels last, as images have.
        dead: values that nothing reads afterwards.
    """
    numbers = {name: i for i, name in enumerate((*inputs, *outputs))}
    arrays = {
        name: (*_array(program.values[name], i), ("channels_last", name in tokens))
        for name, i in numbers.items()
    }
    whole = [
        *(Draft(StepKind.INPUT, name, fields=arrays[name]) for name in inputs),
        *drafts,
        *(Draft(StepKind.OUTPUT, "", name, fields=arrays[name]) for name in outputs),
    ]
    images = _images(program, whole, inputs)
    same = _same_memory(images, whole)
    whole = [draft for draft in whole if draft.target not in same]
    arena_bytes = _place(images, whole, same)
    index = {name: i for i, name in enumerate(images)} | {"": -1}
    steps = [
        EngineStep(
            kind=draft.kind,
            source=index[draft.source],
            residual=index[draft.residual],
            target=index[draft.target],
            **dict(draft.fields),
        )
        for draft in whole
    ]
    return Plan(
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        steps=(EngineStep * len(steps))(*steps),
        images=(Image * len(images))(*images.values()),
        names=tuple(draft.owner or draft.target or draft.source for draft in whole),
        arena_bytes=arena_bytes + SLACK,
        pinned=tuple(pins.arrays),
        dead=dead,
    )


def image_shape(value: Value) -> tuple[int, int, int]:
    """(channels, height, width); a vector is an image of one pixel."""
    channels, height, width = value.shape if len(value.shape) == 3 else (*value.shape, 1, 1)
    return channels, height, width


def _aligned(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array to be filled: no vector of it lies in two lines of a cache, where it would be loaded twice."""
    size = count * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype)


def _size(value: Value) -> int:
    """Bytes of a level in an image."""
    return 4 if value.wide else 1


def _array(value: Value, number: int) -> tuple[tuple[str, Any], ...]:
    return ("external", number), ("flip", 128 if value.dtype == np.int8 else 0)


def _images(program: Program, drafts: Sequence[Draft], inputs: Sequence[str]) -> dict[str, Image]:
    images: dict[str, Image] = {}
    for draft in drafts:
        if not draft.target or draft.target in images:
            continue
        value = program.values[draft.target]
        channels, height, width = image_shape(value)
        readers = [reader for reader in drafts if draft.target in (reader.source, reader.residual)]
        # Few input channels need no more than one dot product; all other readers load whole vectors.
        narrow = (
            draft.target in inputs
            and channels <= 4
            and not value.wide
            and all(reader.kind in (StepKind.CONV, StepKind.OUTPUT) for reader in readers)
            and all(draft.target != reader.residual for reader in readers)
        )
        images[draft.target] = Image(
            height=height,
            width=width,
            channels=channels,
            stride=4 if narrow else -(-channels // 16) * 16 * _size(value),
            border_h=max((r.pads[0] for r in readers if r.source == draft.target), default=0),
            border_w=max((r.pads[1] for r in readers if r.source == draft.target), default=0),
            zero_point=value.zero_point + (128 if value.dtype == np.int8 else 0),
            size=_size(value),
        )
    return images


def _same_memory(images: Mapping[str, Image], drafts: Sequence[Draft]) -> dict[str, str]:
    """Images that are others under other dimensions, each level at its place: no step has to make them."""
    same: dict[str, str] = {}
    for draft in drafts:
        if not draft.relabels:
            continue
        x, y = images[draft.source], images[draft.target]
        dense = all(
            image.stride == image.channels * image.size and not image.border_h and not image.border_w
            for image in (x, y)
        )
        if dense and (x.size, x.zero_point) == (y.size, y.zero_point):
            same[draft.target] = same.get(draft.source, draft.source)
    return same


def _place(images: dict[str, Image], drafts: Sequence[Draft], same: Mapping[str, str]) -> int:
    """Offsets, large images first, each as low as those alive at the same time allow; the arena's bytes."""
    born: dict[str, int] = {}
    dies: dict[str, int] = {}
    for step, draft in enumerate(drafts):
        for name in filter(None, (draft.source, draft.residual, draft.target)):
            own = same.get(name, name)
            born.setdefault(own, step)
            dies[own] = step
    placed: list[tuple[int, int, str]] = []
    for name in sorted(born, key=lambda name: -images[name].bytes):
        size = -(-images[name].bytes // ALIGNMENT) * ALIGNMENT
        offset = 0
        for start, end, other in sorted(placed):
            together = born[name] <= dies[other] and born[other] <= dies[name]
            if together and start < offset + size and offset < end:
                offset = end
        images[name].offset = offset
        placed.append((offset, offset + size, name))
    for name, other in same.items():
        images[name].offset = images[other].offset
    return max((end for _, end, _ in placed), default=0)


def supported_shapes(op: Op, program: Program) -> bool:
    """Whether all values are images, as tokens are too (`tokens.as_images`), or vectors."""
    return all(len(program.values[name].shape) in (1, 3) for name in (*op.inputs, op.output))
