"""Numbers, names and walks over dimensions as C99 writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

PER_LINE = 20

Sizes = Sequence[int]


def braces(numbers: Sequence[Any]) -> str:
    """``{a, b, …}``; C has no arrays of no elements."""
    return "{" + (", ".join(map(str, numbers)) or "0") + "}"


def initializer(value: Any) -> str:
    """A field's value: sequences as braces, mappings as structures with designated fields."""
    if isinstance(value, dict):
        return "{" + ", ".join(f".{key} = {initializer(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return braces([initializer(item) for item in value])
    return str(value)


def array(values: NDArray[Any]) -> str:
    """The elements of an integer array in braces, in lines."""
    suffix = "LL" if values.dtype == np.int64 else ""
    numbers = [f"{number}{suffix}" for number in values.ravel().tolist()] or ["0"]
    lines = [", ".join(numbers[i : i + PER_LINE]) for i in range(0, len(numbers), PER_LINE)]
    return "{\n    " + ",\n    ".join(lines) + "}"


def comment(text: str) -> str:
    """Text that ends no comment, in ASCII."""
    return text.replace("*/", "* /").replace("/*", "/ *").encode("ascii", "backslashreplace").decode()


def string(text: str) -> str:
    """A string literal; bytes beyond ASCII are UTF-8, as octal escapes."""
    plain = {*map(ord, " !#$%&'()*+,-./:;<=>@[]^_`{|}~"), *range(48, 58), *range(65, 91), *range(97, 123)}
    return '"' + "".join(chr(b) if b in plain else f"\\{b:03o}" for b in text.encode()) + '"'


def row_major(shape: Sizes) -> tuple[int, ...]:
    """The strides of an array, in elements."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def broadcast(shape: Sizes, to: Sizes) -> tuple[int, ...]:
    """The strides of an array that is read as one of shape `to`."""
    pairs = zip(row_major(shape), shape, to, strict=True)
    return tuple(0 if size == 1 and wanted != 1 else stride for stride, size, wanted in pairs)


def walk(sizes: Sizes, *strides: Sizes) -> tuple[list[int], list[list[int]]]:
    """The same walk in the fewest dimensions, at least one: sizes, and each operand's strides."""
    merged: list[tuple[int, list[int]]] = []
    for axis, size in enumerate(sizes):
        own = [operand[axis] for operand in strides]
        if size == 1:
            continue
        if merged and all(before == stride * size for before, stride in zip(merged[-1][1], own, strict=True)):
            merged[-1] = (merged[-1][0] * size, own)
        else:
            merged.append((size, own))
    merged = merged or [(1, [0] * len(strides))]
    return [size for size, _ in merged], [[own[i] for _, own in merged] for i in range(len(strides))]
