"""Coded programs changed at random and read: ``python -m tests.fuzz_coded --count 100000 --seed 0``.

A changed file is refused by one ``ValueError``, or decodes to the program that it was. Two kinds:
``damaged``, bytes as they come (flips, numbers in the place of others, parts left out, doubled, cut off);
``hostile``, a change in one of the file's parts, deflated anew and under a right checksum, so that what lies
behind the checksum is tried. There another valid program is possible (a scale that is another), but no other
weight, no crash, and no time or memory out of proportion. `tests.test_fuzz_coded` runs a few.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from dataclasses import replace

from stages.integer.coded import Coder, decode_program, encode_program
from stages.integer.coding.container import pack, unpack
from stages.integer.coding.derived import same
from stages.integer.program import Program
from tests.fuzzing import shaken
from tests.stages.integer.test_coded import sparse_program

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
    """``unchanged``, ``refused``, ``equal``, ``another`` (of hostile files alone), or what went wrong."""
    if changed == data:
        return "unchanged"
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
        return "another"
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


def run(count: int, seed: int, share_hostile: float = 0.1) -> Counter[str]:
    """Try so many changed files of both coders; counts of outcomes by kind: ``damaged refused``."""
    program = sparse_program(12)
    coders: tuple[Coder, Coder] = ("range", "huffman")
    files = [encode_program(program, coder) for coder in coders]
    outcomes: Counter[str] = Counter()
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        data = files[number % 2]
        mended = rng.random() < share_hostile
        changed = hostile(data, rng) if mended else damaged(data, rng)
        found = outcome(data, changed, program, mended=mended)
        kind = "hostile" if mended else "damaged"
        outcomes[f"{kind} {found}"] += 1
        if found.split(":")[0] in ("wrong", "slow") or found.startswith("raised"):
            print(f"seed {seed}, case {number}, {kind}: {found}")
    return outcomes


def main() -> None:
    """Print the counts; exit with 1 where anything went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    outcomes = run(args.count, args.seed)
    for name, number in sorted(outcomes.items()):
        print(f"{number:>8} {name}")
    fine = {"unchanged", "refused", "equal", "another"}
    raise SystemExit(any(name.split(" ", 1)[1] not in fine for name in outcomes))


if __name__ == "__main__":
    main()
