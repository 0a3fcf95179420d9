"""What each kind of step reads and writes, as its C++ does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.stages.backends.native_kernels.walk_memory import LANES, Place, Walk, up

BLOCK = 64
COLUMNS, ROWS, PIXELS = 128, 8, 16
"""What source/depthwise.h has room for."""
NAMES = (
    *("INPUT", "OUTPUT", "CONV", "DEPTHWISE", "COMBINE", "MULTIPLY", "AVG_POOL"),
    *("MAX_POOL", "COPY", "SOFTMAX", "LAYER_NORM", "MATMUL", "MOVE", "RESCALE", "FILL", "CONSTANT"),
    *("EMBED", "REDUCE", "RMS_NORM", "GROUP_NORM", "RESAMPLE", "CHANNEL_TABLE", "GROUPS"),
    *("TFLM_COMBINE", "TFLM_AVG_POOL", "TFLM_SOFTMAX", "LANES"),
)
"""The engine's kinds of steps, in its order."""


def external(self: Walk, step: Any, image: Place) -> None:
    self.that(0 <= step.external < len(self.sample_bytes), f"array {step.external}")
    needed = image.height * image.width * image.channels * image.size
    self.that(needed <= self.sample_bytes[step.external], f"{needed} bytes of a sample")
    self.that(step.flip in (0, 128), f"flip {step.flip}")
    if step.channels_last:  # all rows are one run
        self.that(image.border_h == image.border_w == 0, "rows of tokens with a border")
    elif NAMES[step.kind] == "INPUT" and image.stride == 4 and image.size == 1:
        self.that(image.channels <= 4, "more planes than four")


def read_input(self: Walk, step: Any) -> None:
    external(self, step, self.image(step.target))


def write_output(self: Walk, step: Any) -> None:
    external(self, step, self.image(step.source))


def window(self: Walk, step: Any, source: Place, target: Place) -> Iterator[int]:
    """The first pixels of all corners' windows: checked to lie within the image and its border."""
    for axis, sizes in (("h", (source.height, source.border_h)), ("w", (source.width, source.border_w))):
        size, border = sizes
        kernel, stride, pad, dilation = (
            getattr(step, f"{name}_{axis}") for name in ("kernel", "stride", "pad", "dilation")
        )
        many = target.height if axis == "h" else target.width
        self.that(kernel >= 1 and stride >= 1 and dilation >= 1 and pad >= 0, f"window along {axis}")
        last = (many - 1) * stride - pad + (kernel - 1) * dilation
        self.that(pad <= border, f"pads {pad} along {axis}, and the border has {border}")
        self.that(last < size + border, f"reads {last} along {axis} of {size} with a border of {border}")
    for y in {0, target.height - 1}:
        for x in {0, target.width - 1}:
            for i in {0, step.kernel_h - 1}:
                for j in {0, step.kernel_w - 1}:
                    row = y * step.stride_h - step.pad_h + i * step.dilation_h
                    yield source.at(row, x * step.stride_w - step.pad_w + j * step.dilation_w)


def residual(self: Walk, step: Any, target: Place, first: int, channels: int) -> None:
    """Sixteen levels at a time of the pixels that are added."""
    if step.residual < 0:
        return
    added = self.image(step.residual)
    self.that((added.height, added.width) == (target.height, target.width), f"adds {added} to {target}")
    self.that(first + channels <= added.channels, f"adds channel {first + channels}")
    last = added.at(target.height - 1, target.width - 1) + first * added.size
    self.levels(added, added.at(0, 0), last + channels * added.size, "adds")
    self.loaded(added.start, last + up(channels, LANES) * added.size, "adds")


def written(self: Walk, step: Any, target: Place, first: int, channels: int) -> None:
    """Whole vectors where they lie within the pixel, else those channels alone."""
    self.that(first >= 0 and channels >= 1, f"writes {channels} channels from {first} on")
    end = first + channels
    if (first + up(channels, LANES)) * target.size <= target.stride:
        end = first + up(channels, LANES)
    fits = end * target.size <= target.stride
    self.that(fits, f"writes channels up to {end}, in pixels of {target.stride} bytes")


def of_bytes(self: Walk, *images: Place) -> None:
    """Images that the step takes for levels of 8 bits."""
    self.that(all(image.size == 1 for image in images), f"{images} among 8 bits")


def packed(self: Walk, step: Any, target: Place) -> None:
    """Levels that leave four vectors at a time have 8 bits, and so has what is added to them."""
    wide = target.size == 4 or (step.residual >= 0 and self.image(step.residual).size == 4)
    self.that(not (wide and step.requantize.narrow), "packs wide levels")


def conv(self: Walk, step: Any) -> None:
    """One convolution, or `count` of neighbouring channels, one after the other."""
    source, target = self.image(step.source), self.image(step.target)
    of_bytes(self, source)
    packed(self, step, target)
    self.that(step.channels % 4 == 0 and 0 < step.sum_channels <= step.channels, "channels")
    count = step.count if NAMES[step.kind] == "CONV" else 1
    first = step.source_channel
    self.that(count >= 1 and first >= 0, f"{count} convolutions from channel {first} on")
    if count > 1:  # begins at the first channels, whatever the step says
        self.that(first == 0 and step.target_channel == 0, f"{count} convolutions from elsewhere")
    last = first + count * step.sum_channels
    self.that(last <= source.channels, f"reads channels up to {last} of {source.channels}")
    for pixel in window(self, step, source, target):
        self.levels(source, pixel + first, pixel + last, "reads levels")
        self.loaded(pixel + first, pixel + last - step.sum_channels + step.channels, "loads")
    one = step.kernel_h * step.kernel_w == step.stride_h * step.stride_w == 1 and not step.pad_h | step.pad_w
    if one and not source.border_w and not target.border_w:  # rows join
        self.that(source.width == target.width, f"joins rows of {source.width} and {target.width}")
    products = step.kernel_h * step.kernel_w * step.channels
    vectors = count * up(step.target_channels, LANES) // LANES
    if NAMES[step.kind] == "CONV":
        weights(self, step, vectors * LANES * products)
        self.constants(step.bias, vectors * LANES, "bias")
        if step.order:
            panel(self, step, products // 4, vectors)
            for pixel in window(self, step, source, target):  # 32 bytes at a time
                self.loaded(pixel, pixel + last - step.sum_channels + step.channels + 28, "loads")
        if step.twos:  # rows with their borders, 16 levels at a time
            self.that(count == 1, f"{count} convolutions of weights of 16 bits")
            last = (target.height - 1) * step.stride_h + (step.kernel_h - 1) * step.dilation_h
            end = source.at(last - step.pad_h, -source.border_w) + source.row
            self.loaded(source.at(-step.pad_h, -source.border_w), end + 15, "widens")
    if step.requantize.weight_zero_point:
        self.constants(step.requantize.weight_zero_point, vectors * LANES, "weight_zero_point")
    self.ratios(step, vectors * LANES if count > 1 else step.target_channels)
    for unit in sorted({0, count - 1}):
        written(self, step, target, step.target_channel + unit * step.target_channels, step.target_channels)
        if NAMES[step.kind] == "CONV":
            residual(
                self, step, target, step.target_channel + unit * step.target_channels, step.target_channels
            )


def lanes(self: Walk, step: Any) -> None:
    """Sixteen bytes of each pixel for sixteen outputs, which `table` hands to lanes."""
    source, target = self.image(step.source), self.image(step.target)
    of_bytes(self, source)
    packed(self, step, target)
    self.that(step.channels % 4 == 0 and step.channels > 0 and 0 < step.sum_channels <= LANES, "channels")
    vectors = up(step.target_channels, LANES) // LANES
    last = (vectors - 1) * step.sum_channels
    self.that(last < source.channels, f"reads channels from {last} on of {source.channels}")
    for pixel in window(self, step, source, target):
        self.levels(source, pixel, pixel + source.channels, "reads levels")
        self.loaded(pixel, pixel + last + LANES, "loads")
    dwords = step.channels // 4
    self.numbers(step.table, 64 * dwords, LANES, "table")
    self.constants(step.weight, vectors * 64 * dwords * step.kernel_h * step.kernel_w, "weight")
    self.constants(step.bias, vectors * LANES, "bias")
    self.that(not step.requantize.weight_zero_point, "takes no sums of levels")
    self.ratios(step, step.target_channels)
    written(self, step, target, 0, step.target_channels)
    residual(self, step, target, 0, step.target_channels)


def weights(self: Walk, step: Any, count: int) -> None:
    """A byte each, or half a byte, or two."""
    self.that(step.nibbles in (0, 1), f"nibbles {step.nibbles}")
    self.that(step.twos in (0, 1), f"twos {step.twos}")
    if step.twos:
        self.that(not step.nibbles and not step.order, "has weights of 16 bits and of others")
    if step.nibbles:
        self.that(step.channels % 8 == 0 and not step.order, f"{step.channels} channels of 4 bits")
    self.constants(step.weight, count * (1 + step.twos) // (1 + step.nibbles), "weight")


def panel(self: Walk, step: Any, dwords: int, vectors: int) -> None:
    """Orders name the window's dwords, and lead back to where each has come to."""
    self.constants(step.panel_bias, vectors * LANES, "panel_bias")
    self.constants(step.pairs, vectors, "pairs")
    self.constants(step.order, 2 * vectors * dwords, "order")
    self.that(0 <= step.level_offset <= 128, f"level_offset {step.level_offset}")
    for vector in range(vectors):
        self.that(0 <= 2 * step.pairs[vector] <= dwords, f"{step.pairs[vector]} pairs of {dwords} dwords")
        first = 2 * vector * dwords
        order, places = step.order[first : first + dwords], step.order[first + dwords : first + 2 * dwords]
        named = all(place < dwords and order[place] == 2 * i for i, place in enumerate(places))
        self.that(named, f"order of vector {vector}")


def depthwise(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    of_bytes(self, source)
    packed(self, step, target)
    self.that(step.channels == step.target_channels <= min(source.channels, target.channels), "channels")
    blocks = up(step.channels, BLOCK)
    for pixel in window(self, step, source, target):
        self.levels(source, pixel, pixel + step.channels, "reads levels")
        self.loaded(pixel, pixel + blocks, "loads")
    self.that(1 <= step.kernel_h <= ROWS and 1 <= step.pixels <= PIXELS and step.passes >= 1, "a tile")
    span = (min(step.pixels, target.width) - 1) * step.stride_w + (step.kernel_w - 1) * step.dilation_w + 1
    self.that(span <= COLUMNS, f"a tile of {span} columns")
    groups = (step.kernel_h + 3) // 4
    self.constants(step.weight, blocks * 4 * step.passes * groups * step.kernel_w, "weight")
    self.constants(step.bias, blocks, "bias")
    self.ratios(step, blocks)
    written(self, step, target, 0, step.channels)
    residual(self, step, target, 0, step.channels)


def pool(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    of_bytes(self, source, target)
    for name in ("kernel", "stride", "dilation"):
        self.that(min(getattr(step, f"{name}_h"), getattr(step, f"{name}_w")) >= 1, name)
    self.that(target.stride % LANES == 0 and source.stride >= target.stride, f"{source} to {target}")
    for axis, size in (("h", target.height), ("w", target.width)):  # what the engine counts in 32 bits
        reach = size * getattr(step, f"stride_{axis}") + getattr(step, f"kernel_{axis}") * getattr(
            step, f"dilation_{axis}"
        )
        self.that(reach < 2**31, f"a window that ends at {reach}")
    if NAMES[step.kind] == "MAX_POOL":
        self.constants(step.table, 1, "table")
    elif NAMES[step.kind] == "AVG_POOL":
        self.ratios(step, LANES)


def copy(self: Walk, step: Any) -> None:
    source, target = self.image(step.source), self.image(step.target)
    of_bytes(self, source, target)
    if step.flatten:
        count = source.height * source.width * source.channels
        self.that(count <= target.stride, f"{count} levels into {target.stride} bytes")
        return
    if step.repeat > 1:
        self.that((source.height, source.width) == (target.height, target.width), f"{source} to {target}")
        self.that(step.channels <= source.channels, f"reads channels up to {step.channels}")
        self.that(step.repeat * step.channels <= target.channels, f"{step.repeat} copies in {target}")
        self.that(target.stride % LANES == 0, "pixels of no whole vectors")
        if step.repeat == 2:
            last = source.at(source.height - 1, source.width - 1)
            self.loaded(last, last + (target.stride + LANES) // 2, "loads")
        return
    self.that(
        step.divide_h >= 1 and step.divide_w >= 1 and step.stride_h >= 1 and step.stride_w >= 1, "steps"
    )
    for axis, many in (("h", target.height), ("w", target.width)):
        last = (many - 1) * getattr(step, f"stride_{axis}") - getattr(step, f"pad_{axis}")
        size = (source.height if axis == "h" else source.width) * getattr(step, f"divide_{axis}")
        self.that(-(2**31) <= last < 2**31 and size < 2**31, f"{last} along {axis} of {size}")
    self.that(step.source_channel >= 0 and step.target_channel >= 0 and step.channels >= 1, "channels")
    read, end = step.source_channel + step.channels, step.target_channel + step.channels
    self.that(read <= source.channels, f"reads channels up to {read} of {source.channels}")
    self.that(end <= target.channels, f"writes channels up to {end} of {target.channels}")
    if step.table:
        self.constants(step.table, 256, "table")


def matmul(self: Walk, step: Any) -> None:
    a, b = self.image(step.source), self.image(step.residual)
    of_bytes(self, a, b)
    inner = step.sum_channels
    self.that(inner > 0 and b.height % inner == 0, f"{b.height} rows in matrices of {inner}")
    self.that(b.width == 1 and not b.border_h and not b.border_w, f"matrices within {b}")
    matrices = b.height // inner
    self.that(a.height % matrices == 0, f"{a.height} rows for {matrices} matrices")
    columns = up(step.target_channels, LANES)
    self.that(step.target_channels <= b.channels, f"{step.target_channels} columns of {b.channels}")
    self.loaded(b.start, b.at(b.height - 1, 0) + columns, "loads")
    self.that(not step.nibbles and not step.twos, "has weights of 4 or 16 bits")
    conv(self, step)


def groups(self: Walk, step: Any) -> None:
    """As a convolution for each group, whose accumulators lie elsewhere; whole vectors of results."""
    source, target = self.image(step.source), self.image(step.target)
    of_bytes(self, source)
    self.that(step.channels % 4 == 0 and 0 < step.sum_channels <= step.channels, "channels")
    self.that(step.count >= 1 and step.source_channel == 0, f"{step.count} groups")
    last = step.count * step.sum_channels
    self.that(last <= source.channels, f"reads channels up to {last} of {source.channels}")
    for pixel in window(self, step, source, target):
        self.levels(source, pixel, pixel + last, "reads levels")
        self.loaded(pixel, pixel + last - step.sum_channels + step.channels, "loads")
    one = step.kernel_h * step.kernel_w == step.stride_h * step.stride_w == 1 and not step.pad_h | step.pad_w
    if one and not source.border_w:  # rows join
        self.that(source.width == target.width, f"joins rows of {source.width} and {target.width}")
    each = up(step.target_channels, LANES)
    self.that(each <= target.stride // target.size, f"{each} channels in {target}")
    weights(self, step, step.count * each * step.kernel_h * step.kernel_w * step.channels)
    blocks = step.count * up(step.target_channels, BLOCK)
    self.constants(step.bias, blocks, "bias")
    if step.requantize.weight_zero_point:
        self.constants(step.requantize.weight_zero_point, blocks, "weight_zero_point")
    self.ratios(step, blocks)
    if step.residual >= 0:
        added = self.image(step.residual)
        self.that((added.height, added.width) == (target.height, target.width), f"adds {added} to {target}")
        self.vector(added, step.target_channels, "adds")


STEPS: dict[str, Callable[[Walk, Any], None]] = {
    **{"INPUT": read_input, "OUTPUT": write_output, "CONV": conv, "DEPTHWISE": depthwise},
    **{"AVG_POOL": pool, "MAX_POOL": pool, "TFLM_AVG_POOL": pool, "COPY": copy, "MATMUL": matmul},
    **{"GROUPS": groups, "LANES": lanes},
}
