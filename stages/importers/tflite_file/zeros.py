"""Zeros between an image's pixels, which a file has as RESHAPE, PAD and STRIDED_SLICE in a row.

Our exporter writes `insert_zeros`, the first half of a transposed convolution, so. What a row of operators
does is found by doing it to numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.importers.tflite_file.contents import TfliteContents, TfliteOperator
from stages.importers.tflite_file.reader import TfliteReader

LONGEST = 5
"""Operators before the slice at most: a reshape and zeros for rows and for columns, and a reshape."""

LARGEST = 2**24
"""Elements that are followed."""


@dataclass(frozen=True, kw_only=True)
class InsertedZeros:
    """Operators that insert zeros: the tensor they read, by what factors, and their places in the file."""

    source: int
    factor: tuple[int, int]
    operators: frozenset[int]

    def read(self, reader: TfliteReader, op: TfliteOperator) -> None:
        """Read them as one operator, whose output is that of the last, `op`."""
        x = reader.in_file_order(reader.computed(reader.contents.tensors[self.source]))
        y = reader.value(reader.tensor(op, 0, output=True))
        reader.append("insert_zeros", [x], y, {"factor": self.factor})


def inserted_zeros(contents: TfliteContents) -> dict[int, InsertedZeros]:
    """By place of the last operator, all that are there."""
    made = {number: i for i, op in enumerate(contents.operators) for number in op.outputs}
    reads = Counter(number for op in contents.operators for number in op.inputs) + Counter(contents.outputs)
    found = {}
    for i, op in enumerate(contents.operators):
        if op.kind != "STRIDED_SLICE" or len(op.inputs) != 4 or len(op.outputs) != 1:
            continue
        chain, number = [i], op.inputs[0]
        rows: list[tuple[int, list[int]]] = []
        while number in made and reads[number] == 1 and len(chain) <= LONGEST:
            before = contents.operators[made[number]]
            if before.kind not in ("RESHAPE", "PAD") or not before.inputs or made[number] >= chain[0]:
                break
            chain, number = [made[number], *chain], before.inputs[0]
            rows.append((number, chain))
        for source, operators in reversed(rows):
            factor = _factor(contents, source, operators)
            if factor is not None:
                found[i] = InsertedZeros(source=source, factor=factor, operators=frozenset(operators))
                break
    return found


def _factor(contents: TfliteContents, source: int, operators: Sequence[int]) -> tuple[int, int] | None:
    """The factors by which operators in a row take the pixels of `source` apart; None where they do not."""
    x, y = contents.tensors[source], contents.tensors[contents.operators[operators[-1]].outputs[0]]
    if len(x.shape) != 4 or len(y.shape) != 4 or 0 in x.shape or x.data is not None:
        return None
    levels = [(one.dtype, one.scale.tolist(), one.zero_point.tolist()) for one in (x, y)]
    if levels[0] != levels[1]:
        return None
    sizes = zip(x.shape[1:3], y.shape[1:3], strict=True)
    rows, columns = ((out - 1) // (size - 1) if size > 1 else 1 for size, out in sizes)
    if max(math.prod(x.shape), math.prod(y.shape)) > LARGEST or min(rows, columns) < 1:
        return None
    numbers = np.arange(1, math.prod(x.shape) + 1).reshape(x.shape)
    moved: NDArray[Any] | None = numbers
    for place in operators:
        moved = None if moved is None else _moved(contents, contents.operators[place], moved)
    wanted = np.zeros(y.shape, numbers.dtype)
    taken = wanted[:, ::rows, ::columns]
    if moved is None or taken.shape != x.shape:
        return None
    taken[...] = numbers
    apart = max(rows, columns) > 1 and np.array_equal(moved, wanted)
    return (rows, columns) if apart else None


def _moved(contents: TfliteContents, op: TfliteOperator, numbers: NDArray[Any]) -> NDArray[Any] | None:
    """What an operator makes of numbers; None where that is not known."""
    shape = contents.tensors[op.outputs[0]].shape
    constants = [contents.tensors[number].data for number in op.inputs[1:] if number >= 0]
    if math.prod(shape) > LARGEST or any(c is None or c.dtype.kind != "i" for c in constants):
        return None
    first, *others = [np.asarray(constant, np.int64) for constant in constants] or [np.zeros(0, np.int64)]
    if op.kind == "RESHAPE":
        return numbers.reshape(shape) if numbers.size == math.prod(shape) else None
    if op.kind == "PAD":
        sizes = [size + sum(pair) for size, pair in zip(numbers.shape, first.tolist(), strict=False)]
        fits = first.shape == (numbers.ndim, 2) and first.min() >= 0 and tuple(sizes) == shape
        return np.pad(numbers, first) if fits else None
    ends, steps = others
    plain = not first.any() and (steps == 1).all() and ends.tolist() == list(shape)
    if not plain or any(op.option(slot, "i", 0) for slot in range(5)) or len(shape) != numbers.ndim:
        return None
    return numbers[tuple(slice(0, end) for end in shape)]
