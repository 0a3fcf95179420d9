"""Numbers as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.reporting.text import count, decibels, level, percent, points, shorten, significant


@given(st.floats(0.0, 1.0))
def test_a_share_reads_0_or_100_percent_only_where_it_is(share):
    text = percent(share)
    assert (text == "0.00%") == (share == 0.0)
    assert (text == "100.00%") == (share == 1.0)


@given(st.floats(0.0001, 0.9999))
def test_a_share_is_rounded_to_two_decimals(share):
    assert float(percent(share).rstrip("%")) == pytest.approx(100 * share, abs=0.005 + 1e-9)


@pytest.mark.parametrize("show", [count, decibels, percent, points, significant])
def test_what_is_unknown_is_a_dash(show):
    assert show(None) == show(math.nan) == "–"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (significant(0.0123), "0.01230"),
        (significant(-0.5, 3), "−0.500"),
        (significant(127.0, 3), "127"),
        (significant(0.0), "0"),
        (significant(-math.inf), "−∞"),
        (decibels(math.inf), "∞"),
        (decibels(-2.04), "−2.0"),
        (points(0.00123), "+0.12"),
        (points(-0.0123), "−1.23"),
        (points(-0.00001), "0.00"),
        (count(1078640.0), "1,078,640"),
        (level(-127), "−127"),
    ],
)
def test_numbers_read_as_a_reader_expects(text, expected):
    assert text == expected


@given(st.text(min_size=1), st.integers(5, 40))
def test_a_shortened_name_fits_and_keeps_both_ends(name, length):
    short = shorten(name, length)
    assert len(short) <= length
    assert (short == name) or (short[0] == name[0] and short[-1] == name[-1] and "…" in short)
