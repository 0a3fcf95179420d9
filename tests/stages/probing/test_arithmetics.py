"""Roundings of sums that are no profile of ours, against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.probing.arithmetics import once_half_away, twice_half_up

SUMS = st.one_of(st.integers(-(2**24), 2**24), st.integers(-300, 300))
MULTIPLIERS = st.one_of(st.just(2**30), st.integers(2**30, 2**31 - 1))


def half_away(x: Fraction) -> int:
    return int(math.copysign(math.floor(abs(x) + Fraction(1, 2)), x))


def half_up(x: Fraction) -> int:
    return math.floor(x + Fraction(1, 2))


@given(SUMS, MULTIPLIERS, st.integers(-20, 2))
def test_once_is_the_exact_product_rounded(total, multiplier, shift):
    exact = Fraction(total * multiplier) * Fraction(2) ** (shift - 31)
    found = once_half_away(*(np.array([n], np.int64) for n in (total, multiplier, shift)))
    assert found.tolist() == [half_away(exact)]


@given(SUMS, MULTIPLIERS, st.integers(-20, 2))
def test_twice_rounds_the_high_product_and_what_is_left(total, multiplier, shift):
    left, right = max(shift, 0), max(-shift, 0)
    high = half_up(Fraction(total * 2**left * multiplier, 2**31))
    found = twice_half_up(*(np.array([n], np.int64) for n in (total, multiplier, shift)))
    assert found.tolist() == [half_up(Fraction(high, 2**right))]
