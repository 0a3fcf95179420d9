import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.integer.fixed_point import (
    fused_multiply,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from tests.stages.integer import oracle

INT32 = st.integers(-(2**31), 2**31 - 1)
EDGES = st.sampled_from([-(2**31), 2**31 - 1, -(2**30), 2**30, -1, 0, 1, 2**24])
POWERS = st.builds(
    lambda k, sign, off: sign * 2**k + off, st.integers(0, 30), st.sampled_from([-1, 1]), st.integers(-1, 1)
)
X = st.one_of(INT32, EDGES, POWERS)
MULTIPLIER = st.one_of(st.integers(2**30, 2**31 - 1), st.sampled_from([2**30, 2**31 - 1, 3 * 2**29]))
SHIFT = st.integers(-31, 30)


@given(a=X, b=X)
def test_high_mul_equals_gemmlowp(a: int, b: int) -> None:
    assert saturating_rounding_doubling_high_mul(a, b) == oracle.high_mul(a, b)


@given(a=X, b=X)
def test_high_mul_rounds_to_nearest_with_ties_upwards(a: int, b: int) -> None:
    exact = Fraction(a * b, 2**31)
    expected = min(math.floor(exact + Fraction(1, 2)), 2**31 - 1)
    assert saturating_rounding_doubling_high_mul(a, b) == expected


@given(x=X, exponent=st.integers(0, 31))
def test_divide_by_pot_equals_gemmlowp_and_rounds_ties_away_from_zero(x: int, exponent: int) -> None:
    magnitude = math.floor(Fraction(abs(x), 2**exponent) + Fraction(1, 2))
    actual = rounding_divide_by_pot(x, exponent)
    assert actual == oracle.divide_by_pot(x, exponent)
    assert actual == (magnitude if x >= 0 else -magnitude)


@given(x=X, multiplier=MULTIPLIER, shift=SHIFT)
def test_multiply_equals_unbounded_integers(x: int, multiplier: int, shift: int) -> None:
    assert multiply_by_quantized_multiplier(x, multiplier, shift) == oracle.fixed_multiply(
        x, multiplier, shift
    )


@given(data=st.data(), channels=st.integers(1, 4), length=st.integers(1, 20))
def test_fused_multiply_equals_the_primitives(data: st.DataObject, channels: int, length: int) -> None:
    def array(elements: st.SearchStrategy[int], *shape: int) -> np.ndarray:
        return data.draw(hnp.arrays(np.int32, shape, elements=elements))

    x = array(X, channels, length)
    multiplier, shift = array(MULTIPLIER, channels), array(SHIFT, channels)
    expected = multiply_by_quantized_multiplier(x, multiplier[:, None], shift[:, None])
    actual = fused_multiply(multiplier, shift)(x)
    assert actual.dtype == np.int64
    assert (actual == expected).all()
    one = fused_multiply(multiplier[:1], shift[:1])(x.ravel())
    assert (one == multiply_by_quantized_multiplier(x.ravel(), multiplier[0], shift[0])).all()


@given(real=st.floats(2.0**-31, 2.0**29))
def test_quantize_multiplier_is_normalized_and_within_half_a_step(real: float) -> None:
    multiplier, shift = (int(a) for a in quantize_multiplier(real))
    assert 2**30 <= multiplier < 2**31
    step = Fraction(2) ** (shift - 31)
    assert abs(multiplier * step - Fraction(real)) <= step / 2


def test_quantize_multiplier_at_the_ends() -> None:
    reals = np.array([0.0, 2.0**-33, 2.0**-32, 1.0, np.nextafter(1.0, 0.0), 2.0**30 - 1])
    multiplier, shift = quantize_multiplier(reals)
    assert multiplier.dtype == shift.dtype == np.int32
    assert multiplier.tolist() == [0, 0, 2**30, 2**30, 2**30, 2**31 - 2]
    assert shift.tolist() == [0, 0, -31, 1, 1, 30]


@pytest.mark.parametrize("real", [-0.5, math.nan, math.inf])
def test_ratios_that_are_none_are_refused(real: float) -> None:
    with pytest.raises(ValueError, match=rf"ratio {real}: must be finite and not negative"):
        quantize_multiplier([0.5, real])


def test_too_large_a_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ratio 1073741824\.0: must be below 2\^30"):
        quantize_multiplier([0.5, 2.0**30])
