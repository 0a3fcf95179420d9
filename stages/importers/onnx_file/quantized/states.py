"""What a tensor of a quantized graph is, while its program is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stages.importers.onnx_file.tensors import Array
from stages.integer.program import Value


@dataclass
class Scale:
    """Scale and zero point, as stored, of a value and all that it is moved to; None until a node says so."""

    scale: float | None = None
    zero_point: int | None = None


@dataclass
class ValueDraft:
    """A value of the program to be: its levels as the file stores them.

    Args:
        name: of the value.
        shape: of one sample.
        dtype: as stored: int8 or uint8, int32 for tokens.
        own: its scale, which what it is moved to shares.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    own: Scale


@dataclass(frozen=True)
class StoredLevels:
    """Levels of a value, as stored."""

    value: ValueDraft


@dataclass(frozen=True)
class Real:
    """The reals that the levels of a value stand for, times a factor."""

    value: ValueDraft
    factor: float = 1.0


@dataclass(frozen=True)
class Padded:
    """Levels of a value with more levels, the least, around each image: what a maximum is taken of."""

    value: ValueDraft
    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclass(frozen=True)
class Index:
    """Levels of a value as places in a table; `first` is where each channel's part of it begins."""

    value: ValueDraft
    first: Array | None = None


@dataclass(frozen=True)
class Weight:
    """A quantized constant: ``real = scale · (levels − zero_point)``, both (1,) or (n,) along `axis`."""

    levels: Array
    scale: Array
    zero_point: Array
    axis: int

    @property
    def real(self) -> Array:
        """float32, as DequantizeLinear computes it."""
        shape = [1] * self.levels.ndim
        if self.scale.size > 1:
            shape[self.axis] = -1
        scale, zero = self.scale.reshape(shape), self.zero_point.reshape(shape).astype(np.int64)
        return ((self.levels.astype(np.int64) - zero).astype(np.float32) * scale).astype(np.float32)


@dataclass(frozen=True)
class ValueFunction:
    """A function of one value by elements: float32 (256, 1, …) to an array that this broadcasts to."""

    value: ValueDraft
    apply: Callable[[Array], Array]


KnownValues = Mapping[str, Value]
BuiltOp = tuple[dict[str, Any], dict[str, Array]]
Build = Callable[["Pending", KnownValues, Value], BuiltOp]
"""Attributes and tensors of an operator, once the scales of its inputs and of its output are known."""


@dataclass(frozen=True)
class Pending:
    """A real result that waits to be quantized.

    Args:
        op: the program's name of the operator.
        inputs: the values that it reads.
        shape: of one sample.
        build: its attributes and tensors.
        attrs: attributes that depend on no scale.
        factor: by which the result is multiplied.
        low: a bound of the result; None for none.
        high: likewise.
        layer: the weight and bias of a layer.
        source: the node, for messages.
    """

    op: str
    inputs: tuple[ValueDraft, ...]
    shape: tuple[int, ...]
    build: Build
    attrs: Mapping[str, Any] = field(default_factory=dict)
    factor: float = 1.0
    low: float | None = None
    high: float | None = None
    layer: tuple[Weight | Array, Weight | Array | None] | None = None
    source: str = ""

    @property
    def bounded(self) -> bool:
        """Whether it has a bound."""
        return self.low is not None or self.high is not None


@dataclass(frozen=True)
class Input:
    """The graph's input, as reals."""

    shape: tuple[int, ...]


State = StoredLevels | Real | Padded | Index | Weight | ValueFunction | Pending | Input | Array
