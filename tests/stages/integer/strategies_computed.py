"""Operators without weights for random programs: tables, products of values, means, moves, and more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from stages.integer.kernels.layer_norm import narrowing
from stages.integer.program import Value


class Computed:
    """Methods of `tests.stages.integer.strategies.ProgramBuilder`, whose fields they use."""

    draw: st.DrawFn
    rng: np.random.Generator
    values: dict[str, Value]
    one: Callable[..., Any]
    pair: Callable[..., tuple[int, int]]
    value: Callable[..., Value]
    append: Callable[..., Value]
    bounds: Callable[[Value], dict[str, int]]
    ratio: Callable[..., dict[str, Any]]
    headroom: Callable[[float], int]

    def table(self, x: Value) -> Value:
        y = self.value(x.shape)
        levels = self.rng.integers(y.quant_min, y.quant_max + 1, 256).astype(y.dtype)
        return self.append("table", [x], y, {}, table=levels)

    def channel_table(self, x: Value) -> Value:
        y, axis = self.value(x.shape), self.draw(st.integers(0, len(x.shape) - 1))
        levels = self.rng.integers(y.quant_min, y.quant_max + 1, (x.shape[axis], 256)).astype(y.dtype)
        return self.append("channel_table", [x], y, {"axis": axis}, table=levels)

    def constant(self, x: Value) -> Value:
        y = self.value(self.one(x.shape, (2, 3)))
        levels = self.rng.integers(y.quant_min, y.quant_max + 1, y.shape).astype(y.dtype)
        return self.append("constant", [x], y, {}, levels=levels)

    def broadcast(self, x: Value) -> tuple[list[Value], Value]:
        """The value and another that broadcasts with it, in some order, and what they give."""

        def fits(v: Value) -> bool:
            sizes = zip(v.shape, x.shape, strict=False)
            return len(v.shape) == len(x.shape) and all(m == n or 1 in (m, n) for m, n in sizes)

        other = self.one(*filter(fits, self.values.values()))
        shape = tuple(n if m == 1 else m for m, n in zip(x.shape, other.shape, strict=True))
        return list(self.draw(st.permutations([x, other]))), self.value(shape)

    def multiply(self, x: Value) -> Value:
        inputs, y = self.broadcast(x)
        return self.append("multiply", inputs, y, self.bounds(y), **self.ratio(self.rng.uniform(0.002, 0.05)))

    def add(self, x: Value, op: str = "add") -> Value:
        inputs, y = self.broadcast(x)
        real = self.rng.uniform(0.2, 1.5, 2)
        headroom = self.headroom(float(real.sum() * 255))
        attrs = {**self.bounds(y), "headroom": headroom}
        return self.append(op, inputs, y, attrs, **self.ratio(real, headroom))

    def subtract(self, x: Value) -> Value:
        return self.add(x, "subtract")

    def maximum(self, x: Value, op: str = "maximum") -> Value:
        inputs, y = self.broadcast(x)
        return self.append(op, inputs, y, self.bounds(y), **self.ratio(self.rng.uniform(0.2, 2.0, 2)))

    def minimum(self, x: Value) -> Value:
        return self.maximum(x, "minimum")

    def reduced(self, x: Value) -> tuple[dict[str, Any], tuple[int, ...]]:
        """Some dimensions, whether they are kept, and the shape without them."""
        axes = self.draw(st.sets(st.integers(0, len(x.shape) - 1), min_size=1))
        keepdim = len(axes) == len(x.shape) or self.draw(st.booleans())
        shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdim or i not in axes)
        return {"axes": tuple(sorted(axes)), "keepdim": keepdim}, shape

    def amax(self, x: Value, op: str = "amax") -> Value:
        attrs, shape = self.reduced(x)
        return self.append(op, [x], self.value(shape, x), attrs)

    def amin(self, x: Value) -> Value:
        return self.amax(x, "amin")

    def rms_norm(self, x: Value) -> Value:
        y, axis = self.value(x.shape), self.draw(st.integers(0, len(x.shape) - 1))
        gamma = self.rng.integers(-(2**24), 2**24 + 1, x.shape[axis]).astype(np.int32)
        attrs = {"axis": axis, "epsilon": self.one(0, 1, 2**30, 2**60), "floor": self.one(1, 2**40)}
        return self.append(
            "rms_norm", [x], y, {**attrs, "shift": self.one(46, 48), **self.bounds(y)}, gamma=gamma
        )

    def group_norm(self, x: Value) -> Value:
        y, channels = self.value(x.shape), x.shape[0]
        groups = self.one(*(g for g in range(1, channels + 1) if channels % g == 0))
        gamma = self.rng.integers(-(2**24), 2**24 + 1, channels).astype(np.int32)
        shift = self.one(46, 48, 53)
        beta = self.rng.integers(-(2 ** (shift + 6)), 2 ** (shift + 6), channels)
        attrs = {"groups": groups, "epsilon": self.one(0, 1, 2**30, 2**60), "shift": shift}
        return self.append("group_norm", [x], y, {**attrs, **self.bounds(y)}, gamma=gamma, beta=beta)

    def mean(self, x: Value) -> Value:
        attrs, shape = self.reduced(x)
        axes = attrs["axes"]
        y = self.value(shape)
        real = self.rng.uniform(0.5, 1.5) / math.prod(x.shape[axis] for axis in axes)
        return self.append("mean", [x], y, {**attrs, **self.bounds(y)}, **self.ratio(real))

    def matmul(self, x: Value) -> Value:
        """By its own transpose."""
        x = (
            x
            if len(x.shape) > 1
            else self.append("reshape", [x], self.value((1, *x.shape), x), {"shape": (1, *x.shape)})
        )
        rank = len(x.shape)
        other = self.permute(x, axes=(*range(rank - 2), rank - 1, rank - 2))
        if rank > 2 and self.draw(st.booleans()):
            other = self.take(other, axis=0, indices=(0,))
        y = self.value((*x.shape[:-1], x.shape[-2]))
        real = self.rng.uniform(0.002, 0.02) / math.sqrt(x.shape[-1])
        return self.append("matmul", [x, other], y, self.bounds(y), **self.ratio(real))

    def softmax(self, x: Value) -> Value:
        y, axis = self.value(x.shape), self.draw(st.integers(0, len(x.shape) - 1))
        exponentials = np.exp(-self.one(0.0, 0.01, 0.1, 3.0) * np.arange(256)) * 2.0**26
        inverse = self.one(255, 130, 2**21) * 2**14
        inputs = [x]
        if self.draw(st.booleans()):
            inputs.append(self.keep(x))
        return self.append(
            "softmax",
            inputs,
            y,
            {"axis": axis, **self.bounds(y)},
            exponentials=np.rint(exponentials).astype(np.int32),
            inverse_scale=np.array([inverse], np.int64),
        )

    def keep(self, x: Value) -> Value:
        """A constant with real zeros, perhaps in all of a row; its sizes are those of `x`, or 1."""
        k = self.value(tuple(self.one(size, 1) for size in x.shape))
        levels = self.rng.choice([k.quant_min, k.zero_point, k.zero_point], k.shape).astype(k.dtype)
        return self.append("constant", [x], k, {}, levels=levels)

    def take(self, x: Value, axis: int | None = None, indices: tuple[int, ...] | None = None) -> Value:
        axis = self.draw(st.integers(0, len(x.shape) - 1)) if axis is None else axis
        if indices is None:
            indices = tuple(self.draw(st.lists(st.integers(0, x.shape[axis] - 1), min_size=1, max_size=7)))
        y = self.value((*x.shape[:axis], len(indices), *x.shape[axis + 1 :]), x)
        return self.append("take", [x], y, {"axis": axis, "indices": indices})

    def resample(self, x: Value) -> Value:
        height, width = self.pair(1, 3, 5)
        y = self.value((x.shape[0], height, width))
        share = self.one(8, 2048)
        rows, columns = (
            self.rng.integers(-share // (4 * size), share // size + 1, (count, size)).astype(np.int32)
            for count, size in ((height, x.shape[1]), (width, x.shape[2]))
        )
        total = np.abs(rows).sum(axis=1).max() * np.abs(columns).sum(axis=1).max()
        real = self.rng.uniform(0.5, 1.5) / max(total, 1)
        attrs = self.bounds(y)
        return self.append("resample", [x], y, attrs, rows=rows, columns=columns, **self.ratio(real))

    def layer_norm(self, x: Value) -> Value:
        y, size = self.value(x.shape), x.shape[-1]
        gamma = self.rng.integers(-(2**24), 2**24 + 1, size).astype(np.int32)
        shift = self.one(46, 48, 53)
        beta = self.rng.integers(-(2 ** (shift + 6)), 2 ** (shift + 6), size)
        attrs = {"epsilon": self.one(0, 1, 5000, 2**40), "shift": shift, "narrow": narrowing(x)}
        attrs |= self.bounds(y)
        return self.append("layer_norm", [x], y, attrs, gamma=gamma, beta=beta)

    def permute(self, x: Value, axes: tuple[int, ...] | None = None) -> Value:
        axes = axes or tuple(self.draw(st.permutations(range(len(x.shape)))))
        y = self.value(tuple(x.shape[axis] for axis in axes), x)
        return self.append("permute", [x], y, {"axes": axes})

    def upsample_nearest(self, x: Value) -> Value:
        rows, columns = factor = self.pair(1, 2, 3)
        y = self.value((x.shape[0], x.shape[1] * rows, x.shape[2] * columns), x)
        return self.append("upsample_nearest", [x], y, {"factor": factor})

    def insert_zeros(self, x: Value) -> Value:
        rows, columns = factor = self.pair(1, 2, 3)
        y = self.value((x.shape[0], rows * (x.shape[1] - 1) + 1, columns * (x.shape[2] - 1) + 1), x)
        return self.append("insert_zeros", [x], y, {"factor": factor})
