"""Entropy calibration, against a plain loop over its definition."""

from math import log

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.quant.calibrators.kl import KEPT, SMOOTHING, SPAN, Kl
from stages.quant.linear import LINEAR_HALF, Linear, linear
from stages.quant.outliers import bulk, usual_limit
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.statistics import Statistics


def divergence(h: list[float], kept: int, levels: int) -> float:
    """KL(P‖Q), written as the module's docstring says it."""
    p = h[:kept]
    p[-1] += sum(h[kept:])
    level = [(2 * j + 1) * levels // (2 * kept) for j in range(kept)]
    mass, bins = [0.0] * levels, [0] * levels
    for j in range(kept):
        mass[level[j]] += h[j]
        bins[level[j]] += p[j] > 0
    inside, occupied = max(sum(h[:kept]), 1), sum(x > 0 for x in p)
    result = 0.0
    for j in range(kept):
        if p[j] > 0:
            q = (1 - SMOOTHING) * mass[level[j]] / bins[level[j]] / inside + SMOOTHING / occupied
            result += p[j] / sum(p) * log(p[j] / sum(p) / q)
    return result


def magnitudes(bins: Linear) -> list[float]:
    (counts,) = bins.counts.tolist()
    last = LINEAR_HALF - 1
    h = [float(counts[last + j] + counts[last - j]) for j in range(LINEAR_HALF)]
    return [h[1], *h[1:]]


def observed(x: torch.Tensor) -> Statistics:
    statistics = Statistics()
    statistics.update(x.reshape(1, -1))
    return statistics


def samples(seed: int, size: int, power: int, one_sided: bool) -> torch.Tensor:
    x = torch.randn(size, generator=torch.Generator().manual_seed(seed)) ** power
    return x.relu() if one_sided else x


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 99),
    st.sampled_from([3, 50, 20_000]),
    st.sampled_from([1, 3]),
    st.booleans(),
    st.integers(2, 8),
)
@example(0, 20_000, 3, True, 8)  # few values far out: the last kept bin is often empty
def test_equals_the_slow_loop(seed, size, power, one_sided, bits):
    """The chosen threshold has the least divergence of all candidates, as the plain loop computes it."""
    x, stride = samples(seed, size, power, one_sided), 201
    statistics = observed(x)
    quantizer = Symmetric(bits=bits)
    low, high = Kl(stride=stride).range(statistics, quantizer.qparams)
    bins = linear(statistics, torch.minimum(usual_limit(statistics), SPAN * bulk(statistics)))
    h = magnitudes(bins)
    if sum(h) == 0:
        return
    unsigned = float(x.min()) >= 0
    levels = 2**bits - 1 if unsigned else 2 ** (bits - 1)
    occupied = max(j for j in range(LINEAR_HALF) if h[j]) + 1
    keeping = next(i for i in range(1, LINEAR_HALF + 1) if sum(h[:i]) >= KEPT * sum(h))
    candidates = range(occupied, min(max(levels, keeping), occupied) - 1, -stride)
    width = float(bins.width)
    slow = {kept: divergence(h, kept, levels) for kept in candidates}
    best = min(slow.values())
    thresholds = [(kept + 0.5) * width for kept in candidates if slow[kept] <= best + 1e-9]
    ends = [(max(-t, min(float(x.min()), 0.0)), min(t, max(float(x.max()), 0.0))) for t in thresholds]
    assert any((float(low), float(high)) == pytest.approx(end, rel=1e-6) for end in ends)


def test_an_outlier_is_clipped():
    """One value at 100 among a hundred thousand below 5 does not cost the others their resolution."""
    x = samples(0, 100_000, 1, True)
    x[0] = 100.0
    _, high = Kl(stride=1).range(observed(x), Symmetric().qparams)
    assert 3.0 < float(high) < 15.0


@pytest.mark.parametrize("quantizer", [Affine(), Symmetric()])
def test_the_spike_of_zeros_says_nothing(quantizer):
    """Any number of exact zeros leaves the threshold where it is."""
    x = samples(0, 20_000, 1, True)
    more = torch.cat([x, torch.zeros(1_000_000)])
    assert Kl().range(observed(x), quantizer.qparams) == Kl().range(observed(more), quantizer.qparams)


def test_both_sides_share_one_threshold():
    x = torch.cat([samples(0, 20_000, 1, False), torch.tensor([50.0, -50.0])])
    low, high = Kl().range(observed(x), Symmetric().qparams)
    assert float(low) == -float(high) > -50.0


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("low", "high"), [(1.0, 3.0), (0.3, 0.74), (-3.0, -1.0)])
@pytest.mark.parametrize("shape", ["even", "bell"])
def test_values_away_from_zero_are_kept(bits, low, high, shape):
    """The first occupied bin alone diverges by nothing; it is no candidate, as it clips all the others."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(12 if shape == "bell" else 1, 20_000, generator=generator).mean(dim=0)
    x = low + (high - low) * x
    found = Kl().range(observed(x), Affine(bits=bits).qparams)
    assert float(((x < found[0]) | (x > found[1])).double().mean()) <= 1 - KEPT


def test_stride_is_checked():
    with pytest.raises(ValueError, match="stride=0: must be at least 1"):
        Kl(stride=0)
