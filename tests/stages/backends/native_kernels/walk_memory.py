"""The memory that a plan has, and the ranges of it that a step may touch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LANES = 16
"""Channels of a vector of accumulators."""


class OutsideError(AssertionError):
    """A byte that a step would touch and may not."""


@dataclass(frozen=True)
class Place:
    """An image, by numbers of this module's own."""

    height: int
    width: int
    channels: int
    stride: int
    border_h: int
    border_w: int
    start: int
    size: int

    @property
    def row(self) -> int:
        return (self.width + 2 * self.border_w) * self.stride

    @property
    def end(self) -> int:
        return self.start + (self.height + 2 * self.border_h) * self.row

    def at(self, y: int, x: int) -> int:
        return self.start + (y + self.border_h) * self.row + (x + self.border_w) * self.stride


def up(number: int, multiple: int) -> int:
    return (number + multiple - 1) // multiple * multiple


class Walk:
    """The state of one walk: the plan's memory, and the step that is looked at."""

    def __init__(self, plan: Any, sample_bytes: Sequence[int]) -> None:
        self.plan, self.sample_bytes = plan, sample_bytes
        self.arena = plan.arena_bytes
        self.pinned = sorted((a.ctypes.data, a.ctypes.data + a.nbytes) for a in plan.pinned)
        self.images = [
            Place(i.height, i.width, i.channels, i.stride, i.border_h, i.border_w, i.offset, i.size)
            for i in plan.images
        ]
        self.where = "images"

    def that(self, fits: bool, text: str) -> None:
        """Raise unless it fits."""
        if not fits:
            raise OutsideError(f"{self.where}: {text}")

    def image(self, index: int) -> Place:
        """An image that the step needs."""
        self.that(index >= 0, "has no image where it needs one")
        return self.images[index]

    def levels(self, image: Place, first: int, last: int, what: str) -> None:
        """A range that has to lie within an image."""
        self.that(image.start <= first and last <= image.end, f"{what} {first}..{last} of {image}")

    def loaded(self, first: int, last: int, what: str) -> None:
        """A range that a vector load may read more of than it needs."""
        self.that(first >= 0 and last <= self.arena, f"{what} {first}..{last} of {self.arena}")

    def constants(self, pointer: Any, count: int, what: str) -> None:
        """`count` elements behind a pointer."""
        start = ctypes.cast(pointer, ctypes.c_void_p).value
        self.that(start is not None, f"{what} is null")
        end = start + count * ctypes.sizeof(pointer._type_)  # type: ignore[operator]
        held = any(low <= start and end <= high for low, high in self.pinned)  # type: ignore[operator]
        self.that(held, f"{what}: {count} elements from {start} on, in none of the plan's arrays")

    def vector(self, image: Place, channels: int, what: str) -> None:
        """Whole vectors of levels of every pixel, loaded."""
        last = image.at(image.height - 1, image.width - 1) + up(channels, LANES) * image.size
        self.loaded(image.at(0, 0), last, what)

    def numbers(self, pointer: Any, count: int, limit: int, what: str) -> list[int]:
        """`count` numbers behind a pointer, each from 0 to below `limit`."""
        self.constants(pointer, count, what)
        found = [pointer[i] for i in range(count)]
        self.that(all(0 <= number < limit for number in found), f"{what}: {max(found)} of {limit}")
        return found

    def ratios(self, step: Any, channels: int) -> None:
        """The arrays of a requantization, for whole vectors."""
        r, count = step.requantize, up(channels, LANES)
        names = ("multiplier", "left", "nudge", "carry", "right") if r.mode else ("ratio",)
        self.that(r.mode in (0, 1, 2), f"mode {r.mode}")
        self.that(0 <= r.headroom < 63, f"headroom {r.headroom}")
        for name in names:
            self.constants(getattr(r, name), count, name)
        if r.mode:  # shifts of a register's width or more are 0, or not defined
            self.that(all(0 <= r.right[i] < 64 and 0 <= r.left[i] < 64 for i in range(count)), "a shift")
