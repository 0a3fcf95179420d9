"""Streaming statistics: exact, and dependent on nothing but what was observed."""

from functools import reduce

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.statistics import BINS, HALF, STEPS, Statistics

REAL = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(-1, 1, width=32),
    st.integers(-300, 300).map(float),
)
SLOTS = st.integers(1, 3)


def observed(*batches: torch.Tensor) -> Statistics:
    statistics = Statistics()
    for batch in batches:
        statistics.update(batch)
    return statistics


def same(a: Statistics, b: Statistics, but: tuple[str, ...] = ()) -> bool:
    ours, theirs = a.to_tensors(), b.to_tensors()
    return all(torch.equal(ours[name], theirs[name]) for name in ours if name not in but)


@st.composite
def divided(draw) -> list[torch.Tensor]:
    """One tensor (n, slots, m), cut into batches along n."""
    slots, m = draw(SLOTS), draw(st.integers(1, 3))
    values = draw(st.lists(st.lists(REAL, min_size=slots * m, max_size=slots * m), min_size=1, max_size=6))
    x = torch.tensor(values).reshape(-1, slots, m)
    cuts = sorted(draw(st.sets(st.integers(1, max(len(x) - 1, 1)))))
    return [part for part in x.tensor_split([cut for cut in cuts if cut < len(x)]) if len(part)]


@given(divided())
def test_statistics_do_not_depend_on_batches(batches):
    """One update with everything equals an update a batch, on every integer and row; `updates` differs."""
    assert same(observed(torch.cat(batches)), observed(*batches), but=("updates",))


@given(divided())
def test_merge_of_histograms_is_the_histogram_of_the_merge(batches):
    """Merging statistics of parts equals observing all parts, `rows` and `updates` too."""
    merged = reduce(Statistics.merge, [observed(batch) for batch in batches], Statistics())
    assert same(merged, observed(*batches))


@given(divided(), st.randoms())
def test_merge_is_associative_and_commutative(batches, random):
    """(a·b)·c = a·(b·c) on all parts; a·b = b·a on all but the order of `rows` and `updates`."""
    parts = [observed(batch) for batch in batches]
    a, b, c = random.choice(parts), random.choice(parts), random.choice(parts)
    assert same(a.merge(b).merge(c), a.merge(b.merge(c)))
    assert same(a.merge(b), b.merge(a), but=("rows", "updates"))
    assert same(a.merge(Statistics()), a) and same(Statistics().merge(a), a)


@given(st.lists(REAL, min_size=1, max_size=50))
def test_bins_hold_what_lies_between_their_edges(values):
    """The counts equal a count by edges in float64, the positive edge open above, the negative below."""
    statistics = observed(torch.tensor([values]))
    edges = statistics.edges.tolist()
    expected = [0] * BINS
    for x in values:
        expected[
            max(j for j in range(HALF - 1, BINS) if j == HALF - 1 or edges[j] <= x)
            if x >= 0
            else min(j for j in range(HALF) if j == HALF - 1 or edges[j + 1] >= x)
        ] += 1
    assert statistics.counts.tolist() == expected
    assert statistics.count == len(values)
    assert float(statistics.minimum) == min(values) and float(statistics.maximum) == max(values)


@given(st.lists(REAL, min_size=1, max_size=50), st.floats(2**-90, 1e30))
def test_bins_are_a_thousandth_of_their_values(values, largest):
    """A bin is at most 2^-10 of its values wide, down to 2^-30 of the largest magnitude."""
    statistics = observed(torch.tensor([[*values, largest]]))
    edges, starts = statistics.edges, statistics.starts.abs()
    beside = starts > 0
    assert bool((edges.diff()[beside] <= starts[beside] / STEPS).all())
    magnitude = float(torch.maximum(-statistics.minimum, statistics.maximum))
    assert float(edges[HALF]) <= 2.0**-30 * magnitude


@given(divided(), st.randoms())
def test_the_order_of_observations_changes_no_count(batches, random):
    """Any order, any partition, any order of merging: the same extremes, exponent and counts."""
    x = torch.cat(batches)
    parts = [observed(x[i : i + 1]) for i in random.sample(range(len(x)), len(x))]
    while len(parts) > 1:
        random.shuffle(parts)
        parts.append(parts.pop().merge(parts.pop()))
    assert same(parts[0], observed(x), but=("rows", "updates"))


def test_the_bulk_keeps_its_bins_beside_an_extreme():
    """A value 10^6 times as large as all others leaves these where they are."""
    x = torch.randn(1, 10_000, generator=torch.Generator().manual_seed(0))
    alone, beside = observed(x), observed(x, torch.tensor([[2.0**20]]))
    moved = (int(beside.exponent) - int(alone.exponent)) * STEPS
    assert moved > 0
    assert torch.equal(beside.counts[HALF : BINS - moved], alone.counts[HALF + moved :])


@pytest.mark.parametrize("extreme", [2.0**-126, 2.0**-95, 1.0, 2.0**127])
def test_the_ends_of_float32(extreme):
    statistics = observed(torch.tensor([[extreme, -extreme, 0.0, -0.0, 2.0**-149]]))
    assert statistics.count == 5
    assert int(statistics.counts[HALF - 1]) == 3
    assert (float(statistics.minimum), float(statistics.maximum)) == (-extreme, extreme)


@given(st.lists(REAL, min_size=1, max_size=20))
def test_centres_lie_in_the_observed_range_and_zero_is_exact(values):
    statistics = observed(torch.tensor([[0.0, *values]]))
    centres = statistics.centres[statistics.counts > 0]
    assert float(centres.min()) >= float(statistics.minimum)
    assert float(centres.max()) <= float(statistics.maximum)
    assert 0.0 in centres.tolist()


def test_slots_equal_a_loop():
    x = torch.randn(2, 5, 7) * torch.logspace(-4, 4, 5)[:, None]
    together = observed(x)
    for slot in range(5):
        alone = observed(x[:, slot])
        assert torch.equal(together.counts[slot], alone.counts)
        assert torch.equal(together.edges[slot], alone.edges)
        assert torch.equal(together.batches[:, :, slot], alone.batches)


def test_batches_are_kept_in_order():
    statistics = observed(torch.tensor([[1.0, 2.0]]), torch.tensor([[-3.0, 0.0]]))
    assert statistics.batches.tolist() == [[1.0, 2.0], [-3.0, 0.0]]


def test_each_row_has_its_extremes():
    statistics = observed(torch.tensor([[1.0, 2.0], [-3.0, 5.0]]), torch.tensor([[7.0, 0.0]]))
    assert statistics.rows.tolist() == [[1.0, 2.0], [-3.0, 5.0], [0.0, 7.0]]
    assert statistics.updates.tolist() == [2, 1]
    assert statistics.batches.tolist() == [[-3.0, 5.0], [0.0, 7.0]]


@given(divided())
def test_save_load_identity(batches):
    statistics = observed(*batches)
    assert same(Statistics.from_tensors(statistics.to_tensors()), statistics)


def test_what_was_observed_in_inference_mode_can_be_used_outside():
    statistics = Statistics()
    with torch.inference_mode():
        statistics.update(torch.randn(1, 100))
    statistics.update(torch.randn(1, 100))
    assert statistics.merge(statistics).count == 400


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_refused_and_leaves_no_trace(bad):
    statistics = observed(torch.tensor([[1.0, 2.0]]))
    before = Statistics().merge(statistics)
    with pytest.raises(ValueError, match=r"contain NaN or infinity\. Remedy: .*normalization"):
        statistics.update(torch.tensor([[1.0, bad]]))
    assert same(statistics, before)


def test_nothing_to_observe_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1, 0\) are empty"):
        Statistics().update(torch.zeros(1, 0))


def test_granularities_do_not_mix():
    per_tensor, per_channel = observed(torch.ones(1, 4)), observed(torch.ones(1, 2, 4))
    with pytest.raises(ValueError, match=r"qparam_shape \(2,\), those before \(\)"):
        per_tensor.merge(per_channel)
    with pytest.raises(ValueError, match=r"qparam_shape \(\), those before \(2,\)"):
        per_channel.update(torch.ones(1, 4))


def test_tensors_of_another_file_are_refused():
    tensors = observed(torch.ones(1, 4)).to_tensors()
    with pytest.raises(ValueError, match="statistics lack counts"):
        Statistics.from_tensors({name: t for name, t in tensors.items() if name != "counts"})
    with pytest.raises(ValueError, match=r"counts have shape \(5,\): must be \(63489,\)"):
        Statistics.from_tensors({**tensors, "counts": torch.zeros(5)})
