"""Main effects: means in a full grid, the true ones in a lopsided one, none where they cannot be known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pipeline.compare.effects import main_effects

GRID = list(itertools.product("abc", "xy"))


def factors(rows):
    return {"first": [row[0] for row in rows], "second": [row[1] for row in rows]}


@given(st.lists(st.floats(-100, 100), min_size=6, max_size=6))
def test_in_a_full_grid_they_are_the_means_of_the_runs(values):
    effects = main_effects(factors(GRID), values)
    for name, place in (("first", 0), ("second", 1)):
        for effect in effects[name]:
            mine = [v for row, v in zip(GRID, values, strict=True) if row[place] == effect.option]
            assert effect.mean == pytest.approx(np.mean(mine), abs=1e-9)
            assert effect.runs == len(mine)


@given(
    st.lists(st.sampled_from(GRID), max_size=20),
    st.tuples(*[st.floats(-10, 10)] * 3),
    st.tuples(*[st.floats(-10, 10)] * 2),
)
def test_in_a_lopsided_grid_they_are_those_that_made_the_values(more, first, second):
    rows = GRID + more
    a, x = dict(zip("abc", first, strict=True)), dict(zip("xy", second, strict=True))
    effects = main_effects(factors(rows), [a[i] + x[j] for i, j in rows])
    for effect in effects["first"]:
        assert effect.mean == pytest.approx(a[effect.option] + np.mean(second), abs=1e-8)
        assert effect.low == pytest.approx(effect.mean, abs=1e-6)


def test_the_interval_of_one_factor_is_students():
    values = {"a": [0.0, 2.0, 4.0], "b": [1.0, 2.0, 3.0]}
    effect = main_effects({"f": ["a"] * 3 + ["b"] * 3}, values["a"] + values["b"])["f"][1]
    pooled = (8 + 2) / 4  # squares around the two means, 6 runs less 2 means
    half = stats.t.ppf(0.975, 4) * np.sqrt(pooled / 3)
    assert (effect.mean, effect.low, effect.high) == pytest.approx((2.0, 2.0 - half, 2.0 + half))


def test_intervals_cover_the_truth_as_often_as_they_say():
    noise, hits = np.random.default_rng(0), 0
    for _ in range(400):
        values = [(i == "a") + noise.normal() for i, _ in GRID * 2]
        effect = main_effects(factors(GRID * 2), values, confidence=0.9)["first"][0]
        hits += effect.low <= 1.0 <= effect.high
    assert hits / 400 == pytest.approx(0.9, abs=0.05)


def test_options_that_always_occur_together_are_not_told_apart():
    effects = main_effects({"f": ["a", "a", "b"], "g": ["x", "x", "y"]}, [1.0, 1.2, 2.0])
    assert [effect.mean for effect in (*effects["f"], *effects["g"])] == [None] * 4


def test_without_runs_to_spare_there_is_no_interval():
    effects = main_effects({"f": ["a", "b"]}, [1.0, 2.0])["f"]
    assert [e.mean for e in effects] == pytest.approx([1.0, 2.0])
    assert [(e.low, e.high) for e in effects] == [(None, None)] * 2


def test_unmeasured_runs_are_left_out():
    with_gap = main_effects({"f": ["a", "b", "a", "b"]}, [1.0, 2.0, np.nan, 4.0])["f"]
    assert with_gap == main_effects({"f": ["a", "b", "b"]}, [1.0, 2.0, 4.0])["f"]
    assert main_effects({"f": ["a"]}, [np.nan]) == {"f": ()}


def test_nothing_to_compare():
    assert main_effects({}, [1.0, 2.0]) == {}


@pytest.mark.parametrize(
    ("options", "confidence", "text"),
    [
        (["a"], 0.95, r"factors\['f'\]: 1 options; must be 2, one a value"),
        (["a", "b"], 1.0, r"confidence=1\.0: must be between 0 and 1"),
    ],
)
def test_mistakes(options, confidence, text):
    with pytest.raises(ValueError, match=text):
        main_effects({"f": options}, [1.0, 2.0], confidence=confidence)
