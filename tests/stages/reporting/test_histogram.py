"""Merging bins keeps every observation; shares outside a range are those of the observations."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.quant.statistics import Statistics
from stages.reporting.histogram import Histogram, histogram_of


def histogram(values: np.ndarray, bins: int = 512) -> Histogram:
    counts, edges = np.histogram(values, bins, range=(-8.0, 8.0))
    return Histogram(edges=edges, counts=counts, minimum=float(values.min()), maximum=float(values.max()))


samples = hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(-7.9, 7.9))


@given(samples, st.integers(1, 128))
def test_merging_keeps_every_observation_in_at_most_so_many_bins(values, most):
    fine = histogram(values)
    merged = fine.merged(most)
    assert merged.counts.size <= most
    assert merged.counts.sum() == values.size
    assert merged.edges.size == merged.counts.size + 1
    assert merged.edges[0] <= values.min()
    assert values.max() <= merged.edges[-1]


@given(samples)
def test_merged_counts_are_the_counts_between_the_merged_edges(values):
    merged = histogram(values).merged(20)
    # edges are multiples of 1/32: exact in float64, so that both place each value in the same bin
    np.testing.assert_array_equal(np.histogram(values, merged.edges)[0], merged.counts)


@given(samples, st.integers(-256, 256), st.integers(0, 256))
def test_share_outside_is_exact_at_edges_of_bins(values, low, span):
    fine = histogram(values)
    bounds = low / 32, min(low + span, 256) / 32
    outside = ((values < bounds[0]) | (values >= bounds[1])).mean()
    inside = bounds[0] <= values.min() and values.max() <= bounds[1]
    assert fine.share_outside(*bounds) == pytest.approx(0.0 if inside else outside, abs=1e-12)


@given(hnp.arrays(np.float32, st.integers(1, 100), elements=st.floats(-50, 50, width=32)))
def test_the_histogram_of_statistics_holds_all_observations(values):
    statistics = Statistics()
    statistics.update(torch.from_numpy(values).reshape(1, -1))
    shown = histogram_of(statistics)
    assert shown.counts.sum() == values.size
    assert (shown.minimum, shown.maximum) == (values.min(), values.max())
    assert shown.edges[0] <= values.min()
    assert values.max() <= shown.edges[-1]
    lower, upper = (np.median(np.repeat(e, shown.counts)) for e in (shown.edges[:-1], shown.edges[1:]))
    assert lower <= np.median(values.astype(np.float64)) <= upper


def test_nothing_was_observed():
    assert histogram_of(Statistics()) is None


def test_a_constant_lies_inside_or_outside_as_a_whole():
    statistics = Statistics()
    statistics.update(torch.full((1, 7), 3.0))
    shown = histogram_of(statistics)
    assert (shown.share_outside(-1.0, 3.0), shown.share_outside(-1.0, 2.0)) == (0.0, 1.0)
    assert shown.merged().counts.sum() == 7
