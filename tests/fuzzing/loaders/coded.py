"""A coded program: a changed file is refused by one ``ValueError``, or decodes to the program that it was.

Two kinds: damaged, bytes as they come (flips, numbers in the place of others, parts left out, doubled, cut
off); hostile, a change in one of the file's parts, deflated anew and under a right checksum, so that what is
behind the checksum is tried. There another valid program is possible (a scale that is another), but no other
weight, no crash, and no time or memory out of proportion.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

from stages.integer.coded import Coder, decode_program, encode_program
from stages.integer.coding.container import pack, unpack
from stages.integer.coding.derived import same
from stages.integer.program import Program
from tests.fuzzing.changes import shaken
from tests.stages.integer.test_coded import sparse_program

CASES = 1000

SLOW = 5.0
"""Seconds that no case may take."""


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The file with flipped bits, cut off, or shaken."""
    kind = rng.random()
    if kind < 0.4:
        found = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(8 * len(found))
            found[place // 8] ^= 1 << place % 8
        return bytes(found)
    return data[: rng.randrange(len(data))] if kind < 0.6 else shaken(data, rng)


def hostile(data: bytes, rng: random.Random) -> bytes:
    """The file with a part shaken, and all lengths and checksums right again."""
    parts = unpack(data)
    name = rng.choice(("fields", "side", "stream", "rest", "lanes"))
    if name == "lanes":
        return pack(replace(parts, lanes=rng.choice((0, 1, parts.lanes + 1, 2**16 - 1))))
    return pack(replace(parts, **{name: shaken(getattr(parts, name), rng)}))


def outcome(data: bytes, changed: bytes, program: Program, *, mended: bool) -> str:
    """``refused``, ``equal`` (to what it was; hostile files to all its weights), or what went wrong."""
    start = time.perf_counter()
    try:
        found = decode_program(changed)
    except ValueError as error:
        took = time.perf_counter() - start
        return "refused" if took < SLOW and str(error) else f"slow: {took:.1f} s"
    except Exception as error:  # any other error is the finding
        return f"raised {type(error).__name__}: {error}"
    if _equal(found, program):
        return "equal"
    weights = [op.tensors["weight"] for op in found.ops if "weight" in op.tensors]
    if mended and all(any(same(own, op.tensors["weight"]) for op in program.ops) for own in weights):
        return "equal"
    return "wrong: decodes to another program"


def _equal(found: Program, program: Program) -> bool:
    return (
        replace(found, ops=()) == replace(program, ops=())
        and len(found.ops) == len(program.ops)
        and all(
            replace(a, tensors={}) == replace(b, tensors={})
            and list(a.tensors) == list(b.tensors)
            and all(same(a.tensors[name], tensor) for name, tensor in b.tensors.items())
            for a, b in zip(found.ops, program.ops, strict=True)
        )
    )


@cache
def _files() -> tuple[Program, tuple[bytes, ...]]:
    """A program, and its files of both coders."""
    program = sparse_program(12)
    coders: tuple[Coder, Coder] = ("range", "huffman")
    return program, tuple(encode_program(program, coder) for coder in coders)


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case; in memory, as files are read whole."""
    program, files = _files()
    data, mended = rng.choice(files), rng.random() < 0.1
    return outcome(data, hostile(data, rng) if mended else damaged(data, rng), program, mended=mended)
