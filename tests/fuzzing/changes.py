"""Changes at random: of bytes, of JSON documents, of archives; and whether an output proves something."""

from __future__ import annotations

import copy
import io
import random
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.program import Integers, Value

WORDS = (0, 1, 2, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
"""Numbers that take the place of some bytes."""

NUMBERS = (
    *(-1, 0, 1, 2, 3, 7, 127, 128, 255, 256),
    *(2**15, 2**20, 2**28, 2**31 - 1, 2**31, 2**32, 2**33 + 1, 2**63, 10**30),
)
STRANGE = (
    *(None, True, False, 0.5, -1.5, 1e300, float("nan"), float("inf")),
    *("", "x", "conv2d", [], [1], {}, {"a": 1}, [[1, 2]]),
)

TELLING = 0.05
"""The least share of numbers that are neither zero nor at a limit in an output that proves something."""


def shaken(content: bytes, rng: random.Random) -> bytes:
    """Bytes with one to four changes: single ones, 32-bit numbers, parts left out, doubled or cut off."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(min(len(found), rng.choice((64, 512, 2**30))) or 1)
        kind = rng.random()
        if kind < 0.4:
            found[place : place + 1] = bytes((rng.randrange(256),))
        elif kind < 0.65:
            width, order = rng.choice((2, 4, 8)), rng.choice(("little", "big"))
            number = rng.choice(WORDS) % 2 ** (8 * width)
            found[place : place + width] = number.to_bytes(width, order)
        elif kind < 0.75:
            del found[place : place + rng.choice((1, 4, 64))]
        elif kind < 0.85:
            found[place:place] = found[place : place + rng.choice((1, 4, 64))]
        elif kind < 0.93:
            del found[place:]
        else:
            found[place:place] = rng.randbytes(rng.choice((1, 16)))
    return bytes(found)


def mutate(document: Any, rng: random.Random, strange: tuple[Any, ...] = STRANGE) -> None:
    """Change one to three places of a document: numbers, types, structure.

    Args:
        document: nested lists and dicts, changed in place.
        rng: decides.
        strange: what else may take the place of a value.
    """
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(_places(document))
        if not places:
            return
        numbers = [(node, key) for node, key in places if isinstance(node[key], int | float)]
        node, key = rng.choice(numbers if numbers and rng.random() < 0.6 else places)
        kind = rng.random()
        if kind < 0.5:
            near = type(node[key]) is int and rng.random() < 0.6
            node[key] = node[key] + rng.choice((-2, -1, 1, 2, 7)) if near else rng.choice(NUMBERS)
        elif kind < 0.7:
            node[key] = copy.deepcopy(rng.choice(strange))
        elif kind < 0.8:
            del node[key]
        elif kind < 0.9:
            other, place = rng.choice(places)
            held = place in (other if isinstance(other, dict) else range(len(other)))
            node[key] = copy.deepcopy(other[place]) if held else 1
        elif isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
        else:
            node[f"{key}_"] = node[key]


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in items:
        yield node, key
        yield from _places(child)


def repacked(content: bytes, rng: random.Random, change: Any) -> bytes:
    """A .zip with one member changed by ``change(name, bytes)``, which `rng` chooses."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w") as new:
        chosen = rng.choice(old.namelist())
        for name in old.namelist():
            held = old.read(name)
            new.writestr(name, change(name, held) if name == chosen else held)
    return made.getvalue()


def telling(q: Integers, value: Value) -> bool:
    """Whether levels prove something: not all are one, nor nearly all zero or at the ends of the range."""
    dull = (q == value.zero_point) | (q == value.quant_min) | (q == value.quant_max)
    return q.size > 0 and q.min() != q.max() and 1 - dull.mean() >= TELLING


def real(array: NDArray[Any]) -> bool:
    """Whether numbers prove something: some share is neither zero nor all that the type holds."""
    largest = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else np.inf
    dull = (array == 0) | (np.abs(array.astype(np.float64)) >= largest)
    return array.size > 0 and 1 - dull.mean() >= TELLING
