"""Layers whose weights take 4 bits, wherever these lie among int8."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from stages.backends.native_kernels import nibbles
from stages.integer.program import Program, Value
from tests.stages.integer.strategies import MODES, ProgramBuilder


@contextmanager
def in_nibbles() -> Iterator[None]:
    """Plans that are made have all weights packed that can be, gain or no gain."""
    with mock.patch.object(nibbles, "_gains", lambda weight, pixels, pins: True):
        yield


class FewBitsBuilder(ProgramBuilder):
    """Weights of any layer within 16 values of their channel's, and zero points among them or not."""

    def layer(
        self,
        op: str,
        x: Value,
        y: Value,
        weight_shape: tuple[int, ...],
        attrs: dict[str, Any],
        depth: int = 0,
    ) -> Value:
        super().layer(op, x, y, weight_shape, attrs, depth)
        made = self.ops.pop()
        outputs = len(made.tensors["weight"])
        count = self.one(1, outputs)
        least = self.rng.integers(*self.one((-128, 113), (-8, -7), (0, 1), (112, 113), (-128, -127)), count)
        spread = self.rng.choice(
            self.one((0, 15), (0, 5, 9, 15), range(16), (8,)), made.tensors["weight"].shape
        )
        weight = least.reshape(-1, *[1] * (len(weight_shape) - 1)) + spread
        zero_point = least + self.rng.integers(0, 16, count) if self.one(True, True, False) else 0 * least
        tensors = {"weight": weight.astype(np.int8), "weight_zero_point": zero_point.astype(np.int32)}
        tensors["weight_scale"] = np.ones(count, np.float32)
        self.ops.append(replace(made, tensors={**made.tensors, **tensors}))
        return y


@st.composite
def few_bits(draw: st.DrawFn) -> Program:
    """One or two layers over vectors, tokens or images: all numbers of vectors, dwords, pixels of a tile."""
    builder = FewBitsBuilder(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    image = builder.one(True, False)
    channels = builder.one(1, 4, 5, 8, 12, 20, 33, 64, 100)
    before = builder.pair(1, 2, 5, 9) if image else builder.one((), (2,), (3,), (7,), (2, 4), (26,))
    x = y = builder.value((channels, *before) if image else (*before, channels))
    for _ in range(builder.one(1, 2)):
        groups = builder.one(1, 2) if image and y.shape[0] % 2 == 0 else 1
        outputs = builder.one(1, 8, 10, 16, 20, 33, 64, 70, 112, 130) * groups
        if image:
            sides = {
                "stride": builder.pair(1, 2),
                "padding": builder.pair(0, 1),
                "dilation": builder.pair(1, 2),
            }
            kernel = builder.pair(1, 2, 3)
            if (shape := builder.windows(y, kernel, sides)) is None:
                kernel, shape = (1, 1), builder.windows(y, (1, 1), sides) or (1, 1)
            weight, made = (outputs, y.shape[0] // groups, *kernel), builder.value((outputs, *shape))
            y = builder.layer("conv2d", y, made, weight, {**sides, "groups": groups})
        else:
            made = builder.value((*y.shape[:-1], outputs))
            y = builder.layer("linear", y, made, (outputs, y.shape[-1]), {})
    ops, mode = tuple(builder.ops), draw(st.sampled_from(MODES))
    return Program(values=builder.values, ops=ops, input=x.name, output=y.name, requantize=mode)
