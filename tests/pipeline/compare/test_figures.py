"""Figures: what of a run they are, and what a comparison of them must have."""

from __future__ import annotations

import math
import sys

import pytest

from pipeline.compare.figures import Contents, Figure

QUALITY = Figure(label="Q", better="higher", role="quality")


@pytest.mark.parametrize(
    ("figure", "metrics", "value"),
    [
        ({}, {"f": 0.25}, 0.25),
        ({"factor": 100}, {"f": 0.25}, 0.25),
        ({"metric": "g"}, {"f": 1.0, "g": 2.0}, 2.0),
        ({"metric": "g", "inverse": True}, {"g": 4.0}, 0.25),
        ({"inverse": True}, {"f": 0.0}, math.nan),
        ({"inverse": True}, {"f": -1.0}, math.nan),
        ({}, {}, math.nan),
        ({}, {"f": math.inf}, math.nan),
        ({}, {"f": -sys.float_info.max}, math.nan),
        ({"inverse": True}, {"f": sys.float_info.max}, math.nan),
        ({}, {"f": math.nan}, math.nan),
    ],
)
def test_a_value_is_the_metrics_or_one_over_it(make, figure, metrics, value):
    contents = Contents(figures={"q": QUALITY, "f": Figure(label="F", better="lower", **figure)})
    found = contents.value("f", make(0, {}, metrics=metrics))
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_costs_are_less_where_it_is_better():
    assert QUALITY.cost(2.0) < QUALITY.cost(1.0)
    error = Figure(label="E", better="lower")
    assert error.cost(1.0) < error.cost(2.0)


def test_null_leaves_a_figure_out():
    contents = Contents(figures={"old": None, "q": QUALITY})
    assert list(contents.shown) == ["q"] and contents.roles == {"quality": "q"}


def test_roles_come_quality_first_whatever_the_order():
    speed = Figure(label="S", better="higher", role="speed")
    size = Figure(label="B", better="lower", role="size")
    contents = Contents(figures={"s": speed, "b": size, "q": QUALITY})
    assert list(contents.roles.items()) == [("quality", "q"), ("size", "b"), ("speed", "s")]


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ({}, "figures: one must have role=quality"),
        ({"q": None}, "figures: one must have role=quality"),
        ({"q": QUALITY, "p": QUALITY}, "figures: q and p have role=quality; must be one at most"),
    ],
)
def test_what_ranks_nothing_or_twice_is_refused(figures, text):
    with pytest.raises(ValueError, match=text):
        Contents(figures=figures)


def test_a_substitute_is_the_quality_of_runs_without_it(make):
    other = Figure(label="O", better="lower", substitute=True)
    contents = Contents(figures={"q": QUALITY, "o": other, "p": other})
    assert contents.roles == {"quality": "q"}

    def among(*metrics):
        return contents.among([make(i, {}, metrics=own) for i, own in enumerate(metrics)]).roles["quality"]

    assert among({"o": 1.0}, {"q": 0.5}) == "q"
    assert among({"p": 1.0}, {"o": 2.0}) == "o"
    assert among({"p": 1.0}, {}) == "p"
    assert among({}) == "q"
    assert "substitute" not in contents.described("o")
