"""The products by which the limit is measured are the products that they claim to be."""

from __future__ import annotations

import pytest

from stages.backends.native_kernels import library
from stages.backends.native_kernels.instruction_sets import available
from stages.backends.native_kernels.library import find_library
from stages.benchmarking import limit
from stages.benchmarking.limit import Products, int8_limit

HERE = list(available(library.cpu_features(library.find_compiler())))


def wrapped(x: int) -> int:
    """As int32 holds it."""
    return (x + 2**31) % 2**32 - 2**31


def products_of(work: Products, vectors: int, tile: int) -> int:
    """What a round adds: each pixel's product of four levels with the weights of each vector."""
    levels, weights = work.levels.astype(int), work.weights.astype(int).reshape(4, 16, 4)
    offset = work._library.dot_offset
    return tile // vectors * int(((levels[:4] - offset) * weights[:vectors]).sum())


@pytest.mark.parametrize("isa", HERE)
def test_every_round_adds_all_products_of_a_tile(isa: str) -> None:
    work = Products(find_library(isa), plain=True, seed=3)
    tile = work.repeat(1) // 64
    assert [work.repeat(rounds) for rounds in (0, 2, 7)] == [0, 128 * tile, 448 * tile]
    start = 16 * int(work.start[:tile].astype(int).sum())
    assert work.total(0) == start
    rounds = {vectors: products_of(work, vectors, tile) for vectors in (1, 2, 4) if tile % vectors == 0}
    found = [v for v, one in rounds.items() if work.total(1) == wrapped(start + one)]
    assert len(found) == 1
    assert work.total(1000) == wrapped(start + 1000 * rounds[found[0]])


@pytest.mark.parametrize("isa", [isa for isa in HERE if isa == "avx2"])
def test_pairs_add_two_products_of_four(isa: str) -> None:
    work = Products(find_library(isa), seed=4)
    tile = work.repeat(1) // 128
    start = 16 * int(work.start[:tile].astype(int).sum())
    levels, weights = work.levels.astype(int).reshape(2, 4), work.weights.astype(int).reshape(4, 16, 4)
    one = tile * sum(int((levels[i] * weights[i]).sum()) for i in range(2))
    assert [work.total(rounds) for rounds in (0, 1, 9)] == [start, start + one, start + 9 * one]


def test_it_is_a_plausible_number_of_operations() -> None:
    found = int8_limit(1, runs=2)
    assert found is not None and 1e9 < found < 1e13


def test_there_is_none_without_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limit, "find_library", lambda isa: "no compiler")
    assert int8_limit(1, runs=1) is None
