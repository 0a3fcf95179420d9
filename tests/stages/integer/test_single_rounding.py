import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.integer.fixed_point import multiply_by_quantized_multiplier, quantize_multiplier
from stages.integer.single_rounding import fused_multiply_single, multiply_by_quantized_multiplier_single
from tests.stages.integer import oracle
from tests.stages.integer.test_fixed_point import MULTIPLIER, SHIFT, X


@given(x=X, multiplier=MULTIPLIER, shift=SHIFT)
def test_multiply_equals_tflite(x: int, multiplier: int, shift: int) -> None:
    assert multiply_by_quantized_multiplier_single(x, multiplier, shift) == oracle.single_multiply(
        x, multiplier, shift
    )


@given(x=X, multiplier=MULTIPLIER, shift=SHIFT)
def test_the_exact_product_is_rounded_once_with_ties_upwards(x: int, multiplier: int, shift: int) -> None:
    exact = x * multiplier * Fraction(2) ** (shift - 31)
    expected = min(max(math.floor(exact + Fraction(1, 2)), -(2**31)), 2**31 - 1)
    assert multiply_by_quantized_multiplier_single(x, multiplier, shift) == expected


@given(x=X, multiplier=MULTIPLIER, shift=st.integers(-31, 0))
def test_double_rounding_differs_by_one_at_the_most(x: int, multiplier: int, shift: int) -> None:
    once = multiply_by_quantized_multiplier_single(x, multiplier, shift)
    twice = multiply_by_quantized_multiplier(x, multiplier, shift)
    assert abs(int(once) - int(twice)) <= 1


@pytest.mark.parametrize(
    ("x", "real", "once", "twice"),
    [
        (1, 0.3, 0, 1),  # 0.6 becomes 1, and 0.5 becomes 1
        (-2, 0.25, 0, -1),  # −0.5: towards +∞, away from zero
        (2, 0.25, 1, 1),
        (-1, 0.5, 0, 0),  # the first of two roundings takes ties towards +∞ too
    ],
)
def test_where_the_roundings_differ(x: int, real: float, once: int, twice: int) -> None:
    ratio = quantize_multiplier(real)
    assert multiply_by_quantized_multiplier_single(x, *ratio) == once
    assert multiply_by_quantized_multiplier(x, *ratio) == twice


@given(data=st.data(), channels=st.integers(1, 4), length=st.integers(1, 20))
def test_fused_multiply_equals_the_primitive(data: st.DataObject, channels: int, length: int) -> None:
    def array(elements: st.SearchStrategy[int], *shape: int) -> np.ndarray:
        return data.draw(hnp.arrays(np.int32, shape, elements=elements))

    x = array(X, channels, length)
    multiplier, shift = array(MULTIPLIER, channels), array(SHIFT, channels)
    expected = multiply_by_quantized_multiplier_single(x, multiplier[:, None], shift[:, None])
    actual = fused_multiply_single(multiplier, shift)(x)
    assert actual.dtype == np.int64
    assert (actual == expected).all()
    one = fused_multiply_single(multiplier[:1], shift[:1])(x.ravel())
    assert (one == multiply_by_quantized_multiplier_single(x.ravel(), multiplier[0], shift[0])).all()
