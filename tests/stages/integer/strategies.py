"""Random integer programs for hypothesis: every operator, every mode, signed, unsigned, narrow levels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from stages.integer.fixed_point import quantize_multiplier
from stages.integer.program import Op, Program, Requantize, Value
from tests.stages.integer.strategies_computed import Computed

MODES: tuple[Requantize, ...] = ("fixed_point", "fixed_point_single", "float")
"""Those that any program runs in."""

LEVELS = ((0, 255), (0, 254), (-128, 127), (-127, 127), (0, 15), (-7, 7))

ALL_OPS = (
    "conv2d",
    "linear",
    "add",
    "concat",
    "requantize",
    "avg_pool2d",
    "max_pool2d",
    "reshape",
    "pad",
    "slice",
    "table",
    "channel_table",
    "constant",
    "multiply",
    "subtract",
    "maximum",
    "minimum",
    "mean",
    "matmul",
    "softmax",
    "layer_norm",
    "rms_norm",
    "group_norm",
    "amax",
    "amin",
    "permute",
    "upsample_nearest",
    "insert_zeros",
    "take",
    "resample",
)

IMAGES = ("conv2d", "avg_pool2d", "max_pool2d", "upsample_nearest", "insert_zeros", "resample")
"""Operators over (C, H, W)."""


class ProgramBuilder(Computed):
    """Appends operators with random tensors; `draw` decides the structure, `rng` the numbers."""

    def __init__(self, draw: st.DrawFn, rng: np.random.Generator) -> None:
        self.draw, self.rng = draw, rng
        self.values: dict[str, Value] = {}
        self.ops: list[Op] = []

    def one(self, *options: Any) -> Any:
        return self.draw(st.sampled_from(options))

    def value(self, shape: tuple[int, ...], like: Value | None = None) -> Value:
        """A new value, with the quantization of `like` or one of its own."""
        name = f"v{len(self.values)}"
        if like is None:
            low, high = self.one(*LEVELS)
            middle = (low + high + 1) // 2
            zero_point = self.one(middle, 0, middle - 2, low, high)
            levels = {"scale": 0.01, "zero_point": zero_point, "quant_min": low, "quant_max": high}
        else:
            names = ("scale", "zero_point", "quant_min", "quant_max")
            levels = {key: getattr(like, key) for key in names}
        self.values[name] = Value(name=name, shape=shape, **levels)
        return self.values[name]

    def append(self, op: str, inputs: list[Value], y: Value, attrs: dict[str, Any], **tensors: Any) -> Value:
        names = tuple(x.name for x in inputs)
        self.ops.append(Op(op=op, inputs=names, output=y.name, attrs=attrs, tensors=tensors))
        return y

    def bounds(self, y: Value) -> dict[str, int]:
        """A clamp: all levels, a ReLU's, or one on both sides."""
        low, high = y.quant_min, y.quant_max
        act_min, act_max = self.one((low, high), (y.zero_point, high), (low + 2, high - 3))
        return {"act_min": act_min, "act_max": act_max}

    def ratio(self, real: Any, headroom: int = 0, prefix: str = "") -> dict[str, Any]:
        real = np.atleast_1d(np.asarray(real, np.float64))
        if self.draw(st.booleans()):
            real = 2.0 ** np.floor(np.log2(real))  # gives ties
        multiplier, shift = quantize_multiplier(real * 2.0**headroom)
        tensors = {"multiplier": multiplier, "shift": shift, "ratio": real.astype(np.float32)}
        return {prefix + name: tensor for name, tensor in tensors.items()}

    def headroom(self, bound: float) -> int:
        most = 30 - math.ceil(math.log2(max(bound, 1.0)))
        return self.one(0, min(most, 16)) if most >= 0 else 0

    def layer(
        self,
        op: str,
        x: Value,
        y: Value,
        weight_shape: tuple[int, ...],
        attrs: dict[str, Any],
        depth: int = 0,
    ) -> Value:
        """conv2d or linear: a weight zero point or not, a residual (maybe a twin's result) or not."""
        out, fan_in = weight_shape[0], math.prod(weight_shape[1:])
        limit = self.one(127, 7)
        weight = self.rng.integers(-limit, limit + 1, weight_shape).astype(np.int8)
        per_channel = self.one(1, out)
        largest_zero_point = self.one(0, 5, 128)
        zero_point = self.rng.integers(-largest_zero_point, largest_zero_point + 1, per_channel)
        zero_point = np.clip(zero_point, -128, 127).astype(np.int32)
        bias = self.rng.integers(-1, 2, out) * self.one(0, 300, 20000)
        spread = 40.0 / (limit * 60 * math.sqrt(fan_in))
        real = self.rng.uniform(0.3, 2.0, self.one(1, out)) * spread * self.one(1.0, 2.0, 1 / 16, 900.0)
        inputs, extra, headroom = [x], {}, 0
        if depth == 0 and self.draw(st.booleans()):
            candidates = [v for v in self.values.values() if v.shape == y.shape and v is not y]
            if not candidates or self.draw(st.booleans()):
                candidates = [self.layer(op, x, self.value(y.shape), weight_shape, attrs, depth=1)]
            inputs.append(self.one(*candidates))
            residual_ratio = self.rng.uniform(0.1, 2.0)
            bound = (fan_in * 255 * 255 + 20000) * real.max() + 255 * residual_ratio
            headroom = self.headroom(bound)
            attrs = {**attrs, "headroom": headroom}
            extra = self.ratio(residual_ratio, headroom, "residual_")
        return self.append(
            op,
            inputs,
            y,
            {**attrs, **self.bounds(y)},
            weight=weight,
            weight_scale=np.ones(per_channel, np.float32),
            weight_zero_point=zero_point,
            bias=bias.astype(np.int32),
            **self.ratio(real, headroom),
            **extra,
        )

    def pair(self, *options: int) -> tuple[int, int]:
        return self.one(*options), self.one(*options)

    def conv2d(self, x: Value) -> Value:
        channels = x.shape[0]
        groups = self.one(*(g for g in range(1, channels + 1) if channels % g == 0))
        out = groups * self.one(1, 2, 3)
        kernel, stride, padding, dilation = (
            self.pair(1, 3, 2),
            self.pair(1, 2),
            self.pair(1, 0),
            self.pair(1, 2),
        )
        attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        shape = self.windows(x, kernel, attrs)
        if shape is None:
            return self.reshape(x)
        return self.layer("conv2d", x, self.value((out, *shape)), (out, channels // groups, *kernel), attrs)

    def windows(self, x: Value, kernel: tuple[int, int], attrs: dict[str, Any]) -> tuple[int, int] | None:
        dilation = attrs.get("dilation", (1, 1))
        sizes = zip(x.shape[1:], kernel, attrs["stride"], attrs["padding"], dilation, strict=True)
        out = []
        for size, k, s, p, d in sizes:
            room = size + 2 * p - d * (k - 1) - 1
            if room < 0:
                return None
            out.append(room // s + 1)
            if attrs.get("ceil_mode") and room % s and out[-1] * s < size + p:
                out[-1] += 1
        return out[0], out[1]

    def linear(self, x: Value) -> Value:
        x = x if self.draw(st.booleans()) else self.reshape(x)
        out = self.one(1, 3, 5)
        return self.layer("linear", x, self.value((*x.shape[:-1], out)), (out, x.shape[-1]), {})

    def concat(self, x: Value) -> Value:
        axis = self.draw(st.integers(0, len(x.shape) - 1))
        others = [
            v
            for v in self.values.values()
            if len(v.shape) == len(x.shape)
            and all(a == axis or v.shape[a] == n for a, n in enumerate(x.shape))
        ]
        inputs = [x, self.one(*others)]
        shape = list(x.shape)
        shape[axis] += inputs[1].shape[axis]
        y = self.value(tuple(shape))
        attrs = {"axis": axis, **self.bounds(y)}
        return self.append("concat", inputs, y, attrs, **self.ratio(self.rng.uniform(0.2, 2.0, 2)))

    def requantize(self, x: Value) -> Value:
        y = self.value(x.shape)
        return self.append("requantize", [x], y, self.bounds(y), **self.ratio(self.rng.uniform(0.1, 3.0)))

    def avg_pool2d(self, x: Value) -> Value:
        kernel = self.one(x.shape[1:], (2, 2), (1, 3))
        attrs = {"kernel": kernel, "stride": self.pair(1, 2), "padding": self.one((0, 0), (1, 1))}
        shape = self.windows(x, kernel, attrs)
        if shape is None or any(2 * p > k for p, k in zip(attrs["padding"], kernel, strict=True)):
            return self.reshape(x)
        y = self.value((x.shape[0], *shape))
        real = self.rng.uniform(0.5, 1.5) / math.prod(kernel)
        return self.append("avg_pool2d", [x], y, {**attrs, **self.bounds(y)}, **self.ratio(real))

    def max_pool2d(self, x: Value) -> Value:
        kernel = self.pair(1, 2, 3)
        padding = (self.one(0, kernel[0] // 2), self.one(0, kernel[1] // 2))
        attrs = {"kernel": kernel, "stride": self.pair(1, 2, 3), "padding": padding}
        attrs |= {"dilation": self.pair(1, 2), "ceil_mode": self.draw(st.booleans())}
        shape = self.windows(x, kernel, attrs)
        if shape is None:
            return self.reshape(x)
        return self.append("max_pool2d", [x], self.value((x.shape[0], *shape), x), attrs)

    def reshape(self, x: Value) -> Value:
        shape = (math.prod(x.shape),)
        return self.append("reshape", [x], self.value(shape, x), {"shape": shape})

    def pad(self, x: Value) -> Value:
        pads = tuple(self.pair(0, 1, 2) for _ in x.shape)
        shape = tuple(size + sum(pair) for size, pair in zip(x.shape, pads, strict=True))
        return self.append("pad", [x], self.value(shape, x), {"pads": pads})

    def slice(self, x: Value) -> Value:
        starts = tuple(self.draw(st.integers(0, size - 1)) for size in x.shape)
        steps = tuple(self.one(1, 2) for _ in x.shape)
        shape = tuple(-(-(n - a) // s) for n, a, s in zip(x.shape, starts, steps, strict=True))
        attrs = {"starts": starts, "ends": x.shape, "steps": steps}
        return self.append("slice", [x], self.value(shape, x), attrs)


@st.composite
def programs(
    draw: st.DrawFn,
    *,
    ops: tuple[str, ...] = ALL_OPS,
    modes: tuple[Requantize, ...],
    ranks: tuple[int, ...] = (3,),
) -> Program:
    """One to four draws of an operator, the later ones on any earlier value, the latest preferred.

    Args:
        draw: hypothesis'.
        ops: names of operators.
        modes: requantizations.
        ranks: how many dimensions the input may have.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    builder = ProgramBuilder(draw, rng)
    rank = draw(st.sampled_from(ranks))
    x = builder.value((draw(st.integers(1, 4)), *(draw(st.integers(1, 6)) for _ in range(rank - 1))))
    y = x
    for _ in range(draw(st.integers(1, 4))):
        source = draw(st.sampled_from([y, y, *builder.values.values()]))
        image = len(source.shape) == 3
        possible = [op for op in ops if image or op not in IMAGES]
        y = getattr(builder, draw(st.sampled_from(possible)))(source)
    return Program(
        values=builder.values,
        ops=tuple(builder.ops),
        input=x.name,
        output=y.name,
        requantize=draw(st.sampled_from(modes)),
    )


def random_input(program: Program, samples: int, seed: int = 0) -> np.ndarray:
    """Levels of the input, (samples, *shape), the extremes among them."""
    x = program.values[program.input]
    rng = np.random.default_rng(seed)
    q = rng.integers(x.quant_min, x.quant_max + 1, (samples, *x.shape))
    extreme = rng.random(q.shape) < 0.2
    q[extreme] = rng.choice([x.quant_min, x.quant_max, x.zero_point], extreme.sum())
    return q.astype(x.dtype)
