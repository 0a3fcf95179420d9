"""Random programs of the kinds of operators that networks have beside layers of 8 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from stages.integer.fixed_point import quantize_multiplier
from stages.integer.kernels.layer_norm import narrowing
from stages.integer.program import Program, Value
from tests.stages.backends.native_kernels.few_bits import few_bits
from tests.stages.backends.native_kernels.group_kinds import grouped, groups
from tests.stages.integer.strategies import MODES, ProgramBuilder

WIDE = ((-(2**15), 2**15 - 1), (0, 2**16 - 1), (-(2**11), 2**11 - 1))


class StreamBuilder(ProgramBuilder):
    """Values of up to 16 bits beside those of 8."""

    def wide(self, shape: tuple[int, ...], like: Value | None = None) -> Value:
        y = self.value(shape, like)
        if like is None:
            low, high = self.one(*WIDE)
            zero_point = self.one((low + high + 1) // 2, low, high)
            y = replace(y, scale=1e-4, zero_point=zero_point, quant_min=low, quant_max=high)
            self.values[y.name] = y
        return y

    def summed(self, a: Value, b: Value, y: Value) -> Value:
        """The first plus or minus the second, each by a ratio that leaves little to clamp."""
        spans = [(y.quant_max - y.quant_min) / (x.quant_max - x.quant_min) for x in (a, b)]
        attrs = {**self.bounds(y), "headroom": self.one(0, 4)}
        ratios = self.ratio(np.array(spans) * self.rng.uniform(0.2, 0.9, 2), attrs["headroom"])
        return self.append(self.one("add", "subtract"), [a, b], y, attrs, **ratios)

    def rescaled(self, x: Value, y: Value) -> Value:
        span = (y.quant_max - y.quant_min) / (x.quant_max - x.quant_min)
        return self.append(
            "requantize", [x], y, self.bounds(y), **self.ratio(span * self.rng.uniform(0.3, 3.0))
        )

    def onto(
        self, op: str, x: Value, r: Value, y: Value, weight: tuple[int, ...], attrs: dict[str, Any]
    ) -> Value:
        """A layer whose residual and result may be wide."""
        self.layer(op, x, y, weight, attrs, depth=1)
        layer = self.ops.pop()
        headroom = self.one(0, 3)
        span = (y.quant_max - y.quant_min) / 255
        real = layer.tensors["ratio"].astype(np.float64) * span
        most = (np.prod(weight[1:]) * 255 * 255 + 20000) * real.max() * 2.0**headroom
        real = real * min(1.0, 2.0**30 / most)  # sums of the largest draws would leave int32
        residual = (y.quant_max - y.quant_min) / (r.quant_max - r.quant_min) * self.rng.uniform(0.3, 1.0)
        tensors = {
            **layer.tensors,
            **self.ratio(real, headroom),
            **self.ratio(residual, headroom, "residual_"),
        }
        names = (x.name, r.name)
        self.ops.append(
            replace(layer, inputs=names, attrs={**layer.attrs, "headroom": headroom}, tensors=tensors)
        )
        return y


@st.composite
def streams(draw: st.DrawFn) -> Program:
    """Blocks of a residual stream of up to 16 bits, over tokens or images, and moves of it."""
    builder = StreamBuilder(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    image = draw(st.booleans())
    channels = draw(st.sampled_from([1, 3, 16, 20, 33, 192]))
    shape = (
        (channels, 3, 5) if image else (*draw(st.sampled_from([(), (1,), (7,), (2, 3), (2, 2, 3)])), channels)
    )
    x = narrow = builder.value(shape)
    stream = builder.summed(x, x, builder.wide(shape))
    op, window = (
        ("conv2d", {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}) if image else ("linear", {})
    )
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["layer", "sum", "norm", "copy", "move"]))
        if kind == "layer":
            deep = image and draw(st.booleans())
            weight = (channels, 1 if deep else channels, *((3, 3) if image else ()))
            groups = {"groups": channels if deep else 1} if image else {}
            y = draw(st.sampled_from([builder.wide, builder.value]))(shape)
            y = builder.onto(op, narrow, stream, y, weight, {**window, **groups})
            stream = y if y.wide else stream
            narrow = narrow if y.wide else y
        elif kind == "sum":
            stream = builder.summed(stream, draw(st.sampled_from([narrow, stream])), builder.wide(shape))
        elif kind == "copy":
            narrow = builder.rescaled(stream, builder.value(shape))
        elif kind == "norm":
            y = draw(st.sampled_from([builder.wide, builder.value]))(shape)
            _norm(builder, stream, y)
            stream, narrow = (y, narrow) if y.wide else (stream, y)
        else:
            axis = draw(st.integers(0, len(shape) - 1))
            moved = builder.permute(stream)
            back = tuple(int(i) for i in np.argsort(builder.ops[-1].attrs["axes"]))
            stream = builder.permute(moved, back)
            twice = builder.take(stream, axis, (*range(shape[axis] - 1, -1, -1), 0))
            ends = {"starts": tuple(int(i == axis) for i in range(len(shape))), "ends": twice.shape}
            cut = builder.value(shape, twice)
            stream = builder.append("slice", [twice], cut, {**ends, "steps": (1,) * len(shape)})
            flat = builder.reshape(stream)
            stream = builder.append("reshape", [flat], builder.value(shape, flat), {"shape": shape})
    ops, mode = tuple(builder.ops), draw(st.sampled_from(MODES))
    return Program(values=builder.values, ops=ops, input=x.name, output=ops[-1].output, requantize=mode)


def _norm(builder: StreamBuilder, x: Value, y: Value) -> None:
    size = x.shape[-1]
    gamma = builder.rng.integers(-(2**24), 2**24 + 1, size).astype(np.int32)
    shift = builder.one(25, 40, 46)  # the first leaves reals too coarse
    beta = builder.rng.integers(-(2 ** (shift + 6)), 2 ** (shift + 6), size)
    attrs = {"epsilon": builder.one(0, 5000, 2**40), "shift": shift, "narrow": narrowing(x)}
    builder.append("layer_norm", [x], y, {**attrs, **builder.bounds(y)}, gamma=gamma, beta=beta)


@st.composite
def texts(draw: st.DrawFn) -> Program:
    """Embeddings of tokens, whose numbers are moved before, and what is added to them."""
    builder = ProgramBuilder(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    rows, depth = draw(st.sampled_from([1, 7, 300, 70000])), draw(st.sampled_from([1, 16, 20]))
    shape = draw(st.sampled_from([(1,), (9,), (2, 5), (2, 3, 4)]))
    levels = {"scale": 1.0, "zero_point": 0, "quant_min": 0, "quant_max": rows - 1}
    x = tokens = Value(name="tokens", shape=shape, **levels)
    builder.values["tokens"] = x
    for _ in range(draw(st.integers(0, 2))):
        tokens = getattr(builder, draw(st.sampled_from(["take", "slice", "reshape", "permute"])))(tokens)
    if draw(st.booleans()):  # a number for each token, as of its type
        number = builder.value(tokens.shape)
        levels_of = builder.rng.integers(
            number.quant_min, number.quant_max + 1, max(rows, 256) if not tokens.wide else rows
        )
        builder.append("table", [tokens], number, {}, table=levels_of.astype(number.dtype))
    y = builder.value((*tokens.shape, depth))
    table = builder.rng.integers(y.quant_min, y.quant_max + 1, (rows, depth)).astype(y.dtype)
    builder.append("embedding", [tokens], y, {}, table=table)
    places = builder.value(draw(st.sampled_from([y.shape, (1,) * (len(y.shape) - 1) + (depth,)])))
    own = builder.rng.integers(places.quant_min, places.quant_max + 1, places.shape).astype(places.dtype)
    builder.append("constant", [x], places, {}, levels=own)
    both = builder.value(y.shape)
    attrs = {**builder.bounds(both), "headroom": 2}
    builder.append("add", [y, places], both, attrs, **builder.ratio(builder.rng.uniform(0.3, 1.0, 2), 2))
    ops, mode = tuple(builder.ops), draw(st.sampled_from(MODES))
    return Program(values=builder.values, ops=ops, input=x.name, output=ops[-1].output, requantize=mode)


class MicroBuilder(ProgramBuilder):
    """Operators in the form that TensorFlow Lite Micro's arithmetic asks for."""

    def avg_pool2d(self, x: Value) -> Value:
        kernel = self.one(x.shape[1:], (2, 2), (1, 3))
        attrs = {"kernel": kernel, "stride": self.pair(1, 2), "padding": self.one((0, 0), (1, 1))}
        attrs["ceil_mode"] = self.draw(st.booleans())
        shape = self.windows(x, kernel, attrs)
        if shape is None or any(2 * p > k for p, k in zip(attrs["padding"], kernel, strict=True)):
            return self.reshape(x)
        y = self.value((x.shape[0], *shape), x)
        return self.append(
            "avg_pool2d", [x], y, {**attrs, **self.bounds(y)}, **self.ratio(1 / np.prod(kernel))
        )

    def softmax(self, x: Value) -> Value:
        y = super().softmax(x)
        least = int(np.iinfo(y.dtype).min)
        self.values[y.name] = replace(
            y, scale=1 / 256, zero_point=least, quant_min=least, quant_max=least + 255
        )
        bounds = {"act_min": least, "act_max": least + 255}
        self.ops[-1] = replace(self.ops[-1], attrs={**self.ops[-1].attrs, **bounds})
        return self.values[y.name]

    def mean(self, x: Value) -> Value:
        y = super().mean(x)
        if self.draw(st.booleans()):  # a division, which that arithmetic rounds in its own way
            size = np.prod([x.shape[axis] for axis in self.ops[-1].attrs["axes"]])
            ratio = self.ratio(1.0)
            multiplier, shift = quantize_multiplier(np.array([x.scale / (y.scale * size)]))
            real = np.array([x.scale / (y.scale * size)], np.float32)
            ratio = {"multiplier": multiplier, "shift": shift, "ratio": real}
            self.ops[-1] = replace(self.ops[-1], tensors=ratio)
        return y


@st.composite
def micro(draw: st.DrawFn) -> Program:
    """Some operators that TensorFlow Lite Micro computes in its own way."""
    builder = MicroBuilder(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    rank = draw(st.sampled_from([2, 3, 3, 4]))
    x = y = builder.value(
        (draw(st.sampled_from([1, 4, 20])), *(draw(st.integers(1, 7)) for _ in range(rank - 1)))
    )
    for _ in range(draw(st.integers(1, 4))):
        names = ["add", "subtract", "mean", "softmax", "requantize", "multiply"]
        y = getattr(builder, draw(st.sampled_from([*names, *["avg_pool2d"] * 2 * (len(y.shape) == 3)])))(y)
    ops = tuple(builder.ops)
    return Program(values=builder.values, ops=ops, input=x.name, output=ops[-1].output, requantize="tflm")


KINDS = {
    **{"streams": streams(), "texts": texts(), "groups": groups(), "grouped": grouped()},
    **{"micro": micro(), "few_bits": few_bits()},
}
