"""Wilson's interval against scipy's, and its properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipeline.compare.wilson import wilson


@st.composite
def counts(draw):
    samples = draw(st.integers(1, 10**6))
    return draw(st.integers(0, samples)), samples


@given(counts(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_it_is_scipys(count, confidence):
    right, samples = count
    expected = binomtest(right, samples).proportion_ci(confidence, method="wilson")
    found = wilson(right / samples, samples, confidence)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(counts())
def test_it_holds_the_share_and_has_a_width(count):
    right, samples = count
    low, high = wilson(right / samples, samples)
    assert 0.0 <= low <= right / samples + 1e-15 and right / samples - 1e-15 <= high <= 1.0
    assert low < high


@given(counts())
def test_more_samples_make_it_narrower(count):
    right, samples = count
    wide, narrow = (wilson(right / samples, n) for n in (samples, 4 * samples))
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1.5, 10), r"share=1.5: must be 0\.\.1"),
        ((float("nan"), 10), "share=nan"),
        ((0.5, 0), "samples=0: must be at least 1"),
        ((0.5, 10, 1.0), "confidence=1.0: must be between 0 and 1"),
    ],
)
def test_what_is_no_count_is_refused(arguments, text):
    with pytest.raises(ValueError, match=text):
        wilson(*arguments)
