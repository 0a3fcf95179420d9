"""McNemar's test against the binomial distribution in whole numbers, and against published examples."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipeline.compare.mcnemar import discordant, holm, mcnemar

counts = st.integers(0, 300)


def exact(b, c):
    """The p-value as a fraction."""
    tail = sum(math.comb(b + c, k) for k in range(min(b, c) + 1))
    return min(Fraction(1), Fraction(2 * tail, 2 ** (b + c)))


@given(counts, counts)
def test_p_is_the_binomial_tail(b, c):
    assert mcnemar(b, c) == pytest.approx(float(exact(b, c)), rel=1e-9)


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_p_is_that_of_scipys_binomial_test(b, c):
    assert mcnemar(b, c) == pytest.approx(binomtest(b, b + c).pvalue, rel=1e-6, abs=1e-290)


@given(counts, counts)
def test_the_test_is_symmetric_and_silent_without_evidence(b, c):
    assert mcnemar(b, c) == mcnemar(c, b)
    assert mcnemar(b, b) == 1.0


def test_known_values():
    # 0 against 5 of 5 coins: 2/32; 4 of 16: 2·2517/65536
    assert mcnemar([5, 4, 0], [0, 12, 0]) == pytest.approx([0.0625, 2 * 2517 / 65536, 1.0], rel=1e-12)


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="counts must not be negative"):
        mcnemar(-1, 3)


@given(st.integers(1, 6), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_discordant_counts_are_those_of_a_loop(runs, samples, seed):
    correct = np.random.default_rng(seed).random((runs, samples)) < 0.7
    expected = [[int((a & ~b).sum()) for b in correct] for a in correct]
    assert discordant(correct).tolist() == expected


def test_discordant_needs_a_table():
    with pytest.raises(ValueError, match=r"correct\.shape=\(4,\): must be \(runs, samples\)"):
        discordant(np.ones(4, dtype=bool))


def test_holms_example():
    # 4 tests at 0.05: only 0.005 and 0.011 stay below it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_a_p_value_nor_changes_their_order(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all() and (adjusted <= 1.0).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert (adjusted <= np.minimum(1.0, len(p) * np.array(p)) + 1e-12).all()
