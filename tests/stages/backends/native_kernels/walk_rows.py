"""What steps read and write that normalize, reduce or resample, as their C++ does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.stages.backends.native_kernels.walk_memory import LANES, Place, Walk, up


def softmax(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    rows(self, source, target)
    self.that(source.size == target.size == 1, "wide levels")
    self.constants(step.bias, 256, "exponentials")
    if step.residual >= 0:
        keep = self.image(step.residual)
        self.that(keep.size == 1, "wide levels")
        self.that(keep.channels in (1, source.channels), f"keeps {keep.channels} of {source.channels}")
        self.that(keep.width in (1, source.width), f"keeps by {keep}")
        if step.residual_map:
            self.numbers(step.residual_map, source.height, keep.height, "residual_map")
        else:
            self.that(keep.height in (1, source.height), f"keeps by {keep}")
        self.vector(keep, keep.channels, "keep")


def softmax_by_reciprocal(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    rows(self, source, target)
    self.that(source.size == target.size == 1, "wide levels")
    self.constants(step.bias, 512, "exponentials, and their terms")


def rows(self: Walk, source: Place, target: Place) -> None:
    shapes = [(one.height, one.width, one.channels) for one in (source, target)]
    self.that(shapes[0] == shapes[1], f"rows of {source} to {target}")
    self.vector(source, source.channels, "loads")


def affine(self: Walk, step: Any, channels: int) -> None:
    """Vectors of gamma and beta, from any channel on; both as reals, if at all."""
    if step.requantize.ratio:
        count = self.image(step.source).channels
        self.constants(step.requantize.ratio, count + LANES + channels, "gamma and beta as reals")
        self.that(self.image(step.target).size == 1, "wide levels from reals")
    self.constants(step.bias, channels, "gamma")
    self.constants(step.offset, channels, "beta")
    self.that(0 <= step.shift < 64, f"shift {step.shift}")


def layer_norm(self: Walk, step: Any) -> None:
    source = self.image(step.source)
    rows(self, source, self.image(step.target))
    affine(self, step, up(source.channels, LANES))
    self.that(0 <= step.count < 32, f"cuts {step.count} bits")


def rms_norm(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    rows(self, source, target)
    self.that(source.size == target.size == 1, "wide levels")
    affine(self, step, up(source.channels, LANES))
    self.that(step.least >= 1, f"a root of {step.least}")


def group_norm(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    rows(self, source, target)
    self.that(source.size == target.size == 1, "wide levels")
    self.that(step.count >= 1 and source.channels % step.count == 0, f"{step.count} groups")
    each = source.channels // step.count
    last = source.channels - each + up(each, LANES)  # the last group's vectors begin where it does
    self.loaded(source.start, source.at(source.height - 1, source.width - 1) + last, "loads")
    affine(self, step, last)
    self.that(0 <= step.passes < 62 and 0 <= step.up < 64, f"bits {step.passes}, {step.up}")


def reduce(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    self.that(source.size == target.size == 1 and source.width == target.width == 1, f"{source} to {target}")
    self.that(step.count >= 1 and 0 <= step.operation <= 3, f"{step.count} rows")
    self.numbers(step.map, target.height * step.count, source.height, "map")
    self.vector(source, source.channels, "loads")
    if step.flatten:
        self.that(target.channels == 1, f"one level into {target}")
    else:
        self.that(target.stride >= up(source.channels, LANES), f"{source} to {target}")
    if step.operation == 0:
        self.ratios(step, LANES)


def resample(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    self.that(source.size == target.size == 1 and source.channels == target.channels, f"{source} to {target}")
    self.that(source.stride >= target.stride and target.stride % LANES == 0, "pixels of no whole vectors")
    self.vector(source, source.channels, "loads")
    self.ratios(step, LANES)
    for table, size, many, what in (
        (step.map, source.height, target.height, "rows"),
        (step.residual_map, source.width, target.width, "columns"),
    ):
        self.constants(table, 3 * many, what)
        for i in range(many):
            first, count, place = table[3 * i : 3 * i + 3]
            self.that(
                first >= 0 and count >= 0 and first + count <= size, f"{what} {first}, {count} of {size}"
            )
            self.that(place >= 0, what)
            self.constants(table, place + count, f"weights of {what}")


ROWS: dict[str, Callable[[Walk, Any], None]] = {
    **{"SOFTMAX": softmax, "LAYER_NORM": layer_norm, "RMS_NORM": rms_norm, "GROUP_NORM": group_norm},
    **{"REDUCE": reduce, "RESAMPLE": resample, "TFLM_SOFTMAX": softmax_by_reciprocal},
}
