"""What steps read and write that work level by level, or move levels, as their C++ does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.stages.backends.native_kernels.walk_memory import LANES, Place, Walk

MOST_DIMENSIONS = 8
"""What source/move.h has room for."""


def operand(self: Walk, one: Place, rows: Any, target: Place, what: str) -> None:
    """Rows by a map, or the same ones, or the only one; all channels, or the only one."""
    self.that(one.width in (1, target.width), f"{one} over {target}")
    if rows:
        self.numbers(rows, target.height, one.height, what)
    else:
        self.that(one.height in (1, target.height), f"{one} over {target}")
    if one.channels != 1:
        self.that(one.channels == target.channels, f"{one} over {target}")
        same_vectors(self, one, target)


def same_vectors(self: Walk, one: Place, target: Place) -> None:
    """Pixels of as many whole vectors."""
    self.that(one.stride // one.size == target.stride // target.size, f"pixels of {one} and {target}")
    self.that(target.stride // target.size % LANES == 0, "pixels of no whole vectors")


def two(self: Walk, step: Any, *, ratios: bool = True) -> None:
    target = self.image(step.target)
    self.that(target.stride // target.size % LANES == 0, "pixels of no whole vectors")
    operand(self, self.image(step.source), step.map, target, "map")
    operand(self, self.image(step.residual), step.residual_map, target, "residual_map")
    if ratios:
        self.ratios(step, LANES)


def rescaled_finely(self: Walk, step: Any) -> None:
    two(self, step, ratios=False)
    self.that(self.image(step.target).size == 1, "writes sums as wide levels")
    self.that(0 <= step.operation <= 1, f"operation {step.operation}")
    for ratio in (step.first, step.term, step.last):
        self.that(0 <= ratio.right < 64 and 0 <= ratio.left < 64, "a shift")


def combine(self: Walk, step: Any) -> None:
    two(self, step)
    self.that(0 <= step.operation <= 3, f"operation {step.operation}")


def multiply(self: Walk, step: Any) -> None:
    two(self, step)
    self.that(self.image(step.target).size == 1, "writes products as wide levels")


def rescale(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    self.that((source.height, source.width) == (target.height, target.width), f"{source} to {target}")
    same_vectors(self, source, target)
    self.ratios(step, LANES)


def channel_table(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    shapes = [(one.height, one.width, one.channels, one.size) for one in (source, target)]
    self.that(shapes[0] == shapes[1] and source.size == 1, f"{source} to {target}")
    same_vectors(self, source, target)  # of which whole ones are read and written
    tables = target.channels
    if step.map:
        tables = 1 + max(self.numbers(step.map, target.height, 2**31, "map"))
    self.constants(step.table, 256 * tables, "table")


def move(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    self.that(source.size == target.size, f"levels of {source.size} and {target.size} bytes")
    self.that(1 <= step.passes <= MOST_DIMENSIONS, f"{step.passes} dimensions")
    self.constants(step.bias, 5 * step.passes, "dimensions")
    units = [[one.size, one.stride, one.row] for one in (source, target)]
    first = [
        source.at(-step.pad_h, -step.pad_w) + step.source_channel * source.size,
        target.at(step.target_row, step.target_column) + step.target_channel * target.size,
    ]
    last = list(first)
    for i in range(step.passes):
        count, *pairs = step.bias[5 * i : 5 * i + 5]
        self.that(count >= 1 and pairs[0] in (0, 1, 2) and pairs[2] in (0, 1, 2), f"dimension {i}")
        reach = [count - 1, count - 1]
        if step.map and i == step.count:
            reach[0] = max(self.numbers(step.map, count, 2**31, "map"))
        for side in (0, 1):
            unit, many = pairs[2 * side : 2 * side + 2]
            self.that(many >= 0, f"dimension {i} goes back")
            last[side] += reach[side] * units[side][unit] * many
    for image, start, end, what in zip((source, target), first, last, ("reads", "writes"), strict=True):
        self.levels(image, start, end + image.size, what)
    self.loaded(0, last[0] + LANES, "loads")  # of the source, where bytes are transposed sixteen at a time
    if step.table:
        self.that(source.size == 1, "looks up wide levels")
        self.constants(step.table, 256, "table")


def fill(self: Walk, step: Any) -> None:
    target = self.image(step.target)
    self.that(target.stride % (LANES * target.size) == 0, "pixels of no whole vectors")


def constant(self: Walk, step: Any) -> None:
    target = self.image(step.target)
    self.that(target.size == 1, "wide constants")
    self.constants(step.table, target.height * target.width * target.channels, "table")


def embed(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    self.that(target.size == 1 and target.width == 1 and source.width == 1, f"{source} to {target}")
    self.that(source.height * source.channels == target.height, f"{target.height} rows of {source}")
    self.that(step.count >= 1, "a table of no rows")  # the step itself keeps to rows that there are
    self.constants(step.table, step.count * target.channels, "table")


LEVELS: dict[str, Callable[[Walk, Any], None]] = {
    **{"COMBINE": combine, "MULTIPLY": multiply, "RESCALE": rescale, "CHANNEL_TABLE": channel_table},
    "TFLM_COMBINE": rescaled_finely,
    **{"MOVE": move, "FILL": fill, "CONSTANT": constant, "EMBED": embed},
}
