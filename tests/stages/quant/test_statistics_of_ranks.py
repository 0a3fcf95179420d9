"""Ranks that divide the batches between them have the statistics of one process, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from pipeline.ranks import Alone
from stages.quant.calibrators.kl import Kl
from stages.quant.calibrators.minmax import MinMax
from stages.quant.calibrators.moving_average import MovingAverage
from stages.quant.calibrators.mse import Mse
from stages.quant.calibrators.percentile import Percentile
from stages.quant.quantizers.affine import Affine
from stages.quant.statistics import Statistics
from stages.quant.statistics_of_ranks import merged, own_batches

REAL = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(-1, 1, width=32),
    st.sampled_from([0.0, -0.0, 1e-45, -1e-38, 3.4028234663852886e38]),
)
CALIBRATORS = [MinMax(), MovingAverage(momentum=0.6), Percentile(), Kl(), Mse()]


class Numbered(Alone):
    """A rank of several, in one process: it gathers what it is given."""

    def __init__(self, rank: int, size: int, gathered: list[bytes] | None = None) -> None:
        self.rank, self.size = rank, size
        self._gathered = gathered or []

    def gather(self, data: bytes) -> list[bytes]:
        return [] if self.rank else [data, *self._gathered]


def observed(x: torch.Tensor, ids: np.ndarray, batch_size: int) -> Statistics:
    statistics = Statistics()
    for start in range(0, len(ids), batch_size):
        statistics.update(x[ids[start : start + batch_size]])
    return statistics


def by_ranks(x: torch.Tensor, ids: np.ndarray, batch_size: int, size: int) -> Statistics:
    parts = [observed(x, own_batches(ids, batch_size, Numbered(r, size)), batch_size) for r in range(size)]
    others = [save(part.to_tensors()) for part in parts[1:]]
    for rank, part in enumerate(parts[1:], start=1):
        assert merged(part, Numbered(rank, size)) is part
    return merged(parts[0], Numbered(0, size, others))


@st.composite
def observations(draw) -> tuple[torch.Tensor, int]:
    """Samples (n, slots, m) and a batch size; ranges of a tensor (slots none) or of channels."""
    n, slots, m = draw(st.integers(1, 13)), draw(st.integers(0, 2)), draw(st.integers(1, 3))
    shape = (n, *([slots] if slots else []), m)
    values = draw(st.lists(REAL, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return torch.tensor(values, dtype=torch.float32).reshape(shape), draw(st.integers(1, 5))


@given(observations(), st.integers(1, 6))
def test_statistics_of_any_number_of_ranks_are_those_of_one_to_the_byte(data, size):
    """More ranks than batches, and zeros of either sign, among them."""
    x, batch_size = data
    ids = np.random.default_rng(0).permutation(len(x))
    assert save(by_ranks(x, ids, batch_size, size).to_tensors()) == save(
        observed(x, ids, batch_size).to_tensors()
    )


@given(observations(), st.integers(1, 9))
def test_ranks_have_runs_of_whole_batches_in_order(data, size):
    """Together all samples, each once; no rank has two batches more than another."""
    x, batch_size = data
    ids = np.arange(len(x))[::-1].copy()
    parts = [own_batches(ids, batch_size, Numbered(rank, size)) for rank in range(size)]
    assert np.concatenate(parts).tolist() == ids.tolist()
    counts = [-(-len(part) // batch_size) for part in parts]
    assert max(counts) - min(counts) <= 1 and sum(counts) == -(-len(ids) // batch_size)


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("size", [2, 3, 4, 7])
def test_every_calibrator_finds_the_range_of_one(calibrator, size):
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(size)).exp() - 1.5
    x[17] *= 30  # a sample beyond the others
    ids = np.random.default_rng(1).permutation(50)
    qparams = Affine(bits=8).qparams
    one, several = (
        torch.stack(calibrator.range(found, qparams))
        for found in (observed(x, ids, 8), by_ranks(x, ids, 8, size))
    )
    assert one.numpy().tobytes() == several.numpy().tobytes()
