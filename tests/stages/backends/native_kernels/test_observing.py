"""Observation in C++: torch's statistics to the bit, on each instruction set, on any number of threads."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.native_kernels import library, observing
from stages.backends.native_kernels.instruction_sets import available
from stages.backends.native_kernels.library import cpu_features, find_compiler
from stages.backends.native_kernels.observing import NativeTaking, find_taking
from stages.quant.statistics import HALF, OCTAVES, STEPS, Statistics

COMPILER = find_compiler()
HERE = list(available(cpu_features(COMPILER))) if COMPILER else []
INFINITE = 0x7F800000
SPECIAL = (0, 1, 0x7FFFFF, 0x800000, 0x7F7FFFFF)  # 0, the ends of subnormals and of normal numbers
CHUNK, PIECE = 2048, 16384  # as in observe.cpp

BITS = st.one_of(st.sampled_from(SPECIAL), st.integers(0, INFINITE - 1))
REAL = st.tuples(BITS, st.booleans()).map(lambda both: both[0] | both[1] << 31)
BATCH = st.integers(1, 5).flatmap(
    lambda m: st.lists(st.lists(REAL, min_size=m, max_size=m), min_size=1, max_size=4)
)


@pytest.fixture(params=HERE)
def take(request: pytest.FixtureRequest) -> NativeTaking:
    found = find_taking(request.param)
    assert found is not None and found.isa == request.param
    return found


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def taken(take: NativeTaking | None, *batches: torch.Tensor, histogram: bool = True) -> Statistics:
    statistics = Statistics(histogram=histogram, take=take)
    for batch in batches:
        statistics.update(batch)
    return statistics


def bits(statistics: Statistics) -> dict[str, bytes]:
    """All of it, with the sign of zeros."""
    return {name: tensor.numpy().tobytes() for name, tensor in statistics.to_tensors().items()}


def check(take: NativeTaking, *batches: torch.Tensor) -> None:
    for histogram in (True, False):
        ours = taken(take, *batches, histogram=histogram)
        assert bits(ours) == bits(taken(None, *batches, histogram=histogram))


@pytest.mark.parametrize("isa", HERE)
@settings(deadline=None)  # the first may compile
@given(st.lists(BATCH, min_size=1, max_size=4))
def test_any_numbers_give_torchs_statistics(isa: str, batches: list[list[list[int]]]) -> None:
    """Subnormals, both zeros, all exponents, several updates: the same bytes."""
    take = find_taking(isa)
    assert take is not None
    check(take, *(torch.from_numpy(np.array(batch, np.uint32).view(np.float32)) for batch in batches))


@pytest.mark.parametrize("m", [1, 15, CHUNK, CHUNK + 1, PIECE - 1, PIECE, 2 * PIECE + 17])
@pytest.mark.parametrize("signed", [True, False])
def test_every_length_of_rows(take: NativeTaking, threads: None, m: int, signed: bool) -> None:
    x = torch.randn(3, m, generator=torch.Generator().manual_seed(m))
    check(take, x if signed else x.relu(), 100 * x)


def test_values_that_grow_along_a_row(take: NativeTaking, threads: None) -> None:
    """Each chunk raises the exponent, by a part of an octave or by many; then nothing does."""
    x = torch.randn(2, 4 * PIECE, generator=torch.Generator().manual_seed(0))
    growth = torch.logspace(-30, 30, x.shape[1])
    check(take, x * growth, x * growth.flip(0), x)
    check(take, torch.zeros(2, 3), x, torch.full((1, 1), 3e38), x * 1e-38)


def test_equal_values(take: NativeTaking, threads: None) -> None:
    check(take, *(torch.full((2, PIECE + 3), value) for value in (0.0, -0.0, 6.0, -6.0, 2.0**-126)))


def test_rows_apart_in_memory(take: NativeTaking) -> None:
    x = torch.randn(4, 3000, generator=torch.Generator().manual_seed(1))
    check(take, x[:, 100:2500], x[::2], x[:1].expand(3, -1), x.T, x[:, ::2], x.double())


def test_granularities_other_than_per_tensor_are_torchs(take: NativeTaking) -> None:
    x = torch.randn(2, 5, 7)
    assert bits(taken(take, x)) == bits(taken(None, x))


@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, CHUNK - 1, PIECE + 5, 3 * PIECE])
def test_what_is_not_finite_is_refused_and_leaves_no_trace(
    take: NativeTaking, threads: None, bad: float, place: int
) -> None:
    good = torch.randn(2, 3 * PIECE + 1, generator=torch.Generator().manual_seed(2))
    statistics = taken(take, good)
    before = bits(statistics)
    damaged = good * 1e6
    damaged[1, place] = bad
    with pytest.raises(ValueError, match=r"contain NaN or infinity\. Remedy: .*normalization"):
        statistics.update(damaged)
    assert bits(statistics) == before
    statistics.update(good)
    assert bits(statistics) == bits(taken(None, good, good))


def test_what_was_handed_out_does_not_change(take: NativeTaking) -> None:
    x = torch.randn(2, 100)
    statistics = taken(take, x)
    tensors = statistics.to_tensors()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    statistics.update(x)
    assert all(torch.equal(tensors[name], before[name]) for name in before)
    assert bits(statistics) == bits(taken(None, x, x))


def test_merging_is_torchs(take: NativeTaking) -> None:
    a, b = torch.randn(2, 100), 1e4 * torch.randn(3, 50)
    assert bits(taken(take, a).merge(taken(take, b))) == bits(taken(None, a, b))


def test_without_openmp_one_thread_does_it(take: NativeTaking, threads: None) -> None:
    check(replace(take, parallel=None), torch.randn(3, 2 * PIECE))


def test_without_a_compiler_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(library, "find_compiler", lambda: None)
    monkeypatch.setattr(library, "BROUGHT", tmp_path)
    assert observing.find_taking.__wrapped__() is None


def test_a_library_with_other_bins_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "BINS", 2 * OCTAVES * STEPS)
    assert HALF == OCTAVES * STEPS + 1
    assert observing.find_taking.__wrapped__() is None


def test_every_instruction_set_here_is_tested() -> None:
    if COMPILER is None:
        pytest.fail("no C++ compiler: apt install g++, or pip install '.[compiler]'")
    assert HERE[-1] == "scalar"
