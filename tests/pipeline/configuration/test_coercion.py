"""Conversion is the identity on fitting values, and refuses what would change in meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NewType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.configuration.coercion import MismatchError, convert

NUMBERS = st.integers() | st.floats(allow_nan=False)


@given(st.integers())
def test_integers_and_their_text_are_integers(value):
    """convert(str(i), int) == convert(i, int) == i."""
    assert convert(value, int) == convert(str(value), int) == value


@given(st.floats(allow_nan=False))
def test_floats_and_their_text_are_floats(value):
    """Text is exact: repr round-trips."""
    assert convert(value, float) == convert(repr(value), float) == value


@pytest.mark.parametrize("hint", [float, float | None, tuple[float, ...], float | str, dict[str, float]])
@pytest.mark.parametrize("value", [float("nan"), "nan"])
def test_nan_is_no_number(hint, value):
    """No comparison refuses it, so that it would pass every check of a range."""
    given = [value] if hint == tuple[float, ...] else {"a": value} if hint == dict[str, float] else value
    if hint == float | str and value == "nan":
        assert convert(value, hint) == "nan"
        return
    with pytest.raises(MismatchError, match=r"expected (float|a list|float or str), got '?nan"):
        convert(given, hint)


@given(st.lists(NUMBERS))
def test_lists_become_tuples_of_the_same_values(values):
    """Length and order stay; only the type of the sequence changes."""
    assert convert(values, tuple[float, ...]) == tuple(map(float, values))
    assert convert(values, Sequence[float]) == tuple(map(float, values))
    assert convert(values, list[float]) == list(map(float, values))


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, float, 3.0),
        (None, int | None, None),
        ("8", int | str, "8"),
        (True, bool | int, True),
        ([1, [2, 3]], tuple[int, tuple[int, ...]], (1, (2, 3))),
        ({"a": "1"}, dict[str, int], {"a": 1}),
        (2, Literal[1, 2], 2),
        ("text", NewType("Name", str), "text"),
        (object, Any, object),
    ],
)
def test_fitting_values_convert(value, hint, expected):
    converted = convert(value, hint)
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint", "text"),
    [
        (1.0, int, r"expected int, got 1\.0 \(float\)"),
        (True, int, r"expected int, got True \(bool\)"),
        (False, float, r"expected float, got False \(bool\)"),
        (8, str, r"expected str, got 8 \(int\)"),
        (1, bool, r"expected bool, got 1 \(int\)"),
        (True, Literal[1, 2], r"True is not a choice; valid: 1, 2"),
        ("a", tuple[int, ...], r"expected a list, got 'a' \(str\)"),
        ([1, "x"], tuple[int, ...], r"expected int, got 'x' \(str\)"),
        (None, str, r"expected str, got null"),
        ("x", int | None, r"expected int, got 'x' \(str\)"),
        ("x", int | float, r"expected int or float, got 'x' \(str\)"),
        ([1], dict[str, int], r"expected a mapping, got \[1\] \(list\)"),
    ],
)
def test_other_values_are_refused(value, hint, text):
    with pytest.raises(MismatchError, match=text):
        convert(value, hint)
