"""The comparison: the right best run, fronts per test set, tests on common samples only."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from pipeline.compare.comparison import MATRIX, compare
from pipeline.compare.figures import Contents, Figure
from pipeline.compare.mcnemar import mcnemar
from pipeline.compare.records import Outcome, Predictions


def test_every_run_has_its_options_and_figures(runs, contents):
    comparison = compare(runs, contents)
    assert [run["id"] for run in comparison["runs"]] == [run.id for run in runs]
    first = comparison["runs"][0]
    assert first["options"]["quantizer"] == "affine" and first["options"]["quantizer.weight.bits"] == "8"
    assert first["values"]["integer/top1"] == runs[0].metrics["integer/top1"]
    assert first["values"]["integer/seconds_per_image"] == pytest.approx(
        1 / runs[0].metrics["integer/images_per_second"]
    )
    assert first["command"].startswith("python -m pipeline quantizer=affine calibration=minmax")


def test_the_best_run_is_the_most_accurate_then_the_smallest(make, contents):
    def run(index, top1, size):
        return make(index, {}, metrics={"integer/top1": top1, "model/integer_bytes": size})

    (only,) = compare([run(0, 0.9, 1), run(1, 0.95, 9), run(2, 0.95, 5), run(3, 0.95, 5)], contents)["sets"]
    assert only["best"] == 2


def test_fronts_hold_what_no_run_beats_and_run_from_cheap_to_dear(runs, contents):
    (only,) = compare(runs, contents)["sets"]
    costs = {
        "model/integer_bytes": [r.metrics["model/integer_bytes"] for r in runs],
        "integer/seconds_per_image": [1 / r.metrics["integer/images_per_second"] for r in runs],
    }
    for key, cost in costs.items():
        top1 = [r.metrics["integer/top1"] for r in runs]
        expected = [
            i
            for i in range(len(runs))
            if not any(
                cost[j] <= cost[i] and top1[j] >= top1[i] and (cost[j], top1[j]) != (cost[i], top1[i])
                for j in range(len(runs))
            )
        ]
        assert sorted(only["fronts"][key]) == expected
        assert [cost[i] for i in only["fronts"][key]] == sorted(cost[i] for i in expected)


def test_runs_on_different_test_sets_are_not_weighed_against_each_other(runs, contents):
    other = [replace(run, tags={**run.tags, "data": "mnist"}) for run in runs[:3]]
    mixed = compare([*runs, *other], contents)
    assert [(s["name"], len(s["runs"])) for s in mixed["sets"]] == [("digits", 24), ("mnist", 3)]
    assert all(set(s["fronts"]["model/integer_bytes"]) <= set(s["runs"]) for s in mixed["sets"])
    assert all(t["run"] in (24, 25, 26) for t in mixed["sets"][1]["tests"]["against"])
    assert "data" not in mixed["sets"][0]["effects"]["integer/top1"]


def test_effects_are_those_that_made_the_figures(runs, contents):
    (only,) = compare(runs, contents)["sets"]
    bits = {e["option"]: e["mean"] for e in only["effects"]["model/integer_bytes"]["quantizer.weight.bits"]}
    assert bits == {"4": pytest.approx(19018 / 2 + 400), "8": pytest.approx(19418)}
    accuracy = {e["option"]: e for e in only["effects"]["integer/top1"]["granularity"]}
    assert list(accuracy) == ["per_channel", "per_tensor"]
    difference = accuracy["per_channel"]["mean"] - accuracy["per_tensor"]["mean"]
    assert difference == pytest.approx(0.03, abs=0.01) and accuracy["per_tensor"]["runs"] == 12


def test_the_best_run_is_tested_against_all_others(runs, contents):
    (only,) = compare(runs, contents)["sets"]
    tests = only["tests"]
    assert tests["best"] == only["best"] and tests["samples"] == 400
    assert sorted(t["run"] for t in tests["against"]) == sorted(set(range(24)) - {only["best"]})
    best = runs[only["best"]].outcome.correct
    for test in tests["against"]:
        other = runs[test["run"]].outcome.correct
        counts = int((best & ~other).sum()), int((other & ~best).sum())
        assert (test["best_only"], test["other_only"]) == counts
        assert test["p"] == mcnemar(*counts) and test["adjusted"] >= test["p"]
    p = np.array(tests["matrix"]["p"])
    assert p.shape == (MATRIX, MATRIX) and (p == p.T).all() and (np.diag(p) == 1).all()


def test_only_runs_on_the_same_samples_are_tested(runs, contents):
    stranger = replace(runs[0], outcome=Outcome(samples="other", correct=np.ones(7, dtype=bool)))
    silent = replace(runs[1], outcome=None)
    (only,) = compare([*runs[2:6], stranger, silent], contents)["sets"]
    assert {t["run"] for t in only["tests"]["against"]} | {only["tests"]["best"]} == {0, 1, 2, 3}
    assert compare([silent, runs[2]], contents)["sets"][0]["tests"] is None


def test_what_was_not_measured_is_missing_not_a_number(make, contents):
    run = make(0, {}, metrics={"integer/top1": 0.5, "integer/sqnr_db": sys.float_info.max})
    comparison = compare([run, make(1, {}, metrics={"integer/top1": math.nan})], contents)
    assert [f["key"] for f in comparison["figures"]] == ["integer/top1"]
    assert [r["values"]["integer/top1"] for r in comparison["runs"]] == [0.5, None]
    assert comparison["sets"][0]["best"] == 0


def test_one_run_alone_and_runs_without_accuracy(make, contents):
    (only,) = compare([make(0, {})], contents)["sets"]
    assert (only["best"], only["fronts"]["model/integer_bytes"], only["tests"]) == (0, [0], None)
    (nothing,) = compare([make(0, {}, metrics={"loss": 1.0})], contents)["sets"]
    assert nothing["best"] is None and nothing["fronts"]["model/integer_bytes"] == []


def test_where_lower_is_better_the_least_is_best_and_on_the_fronts(runs, contents, erring, errors):
    (by_error,) = compare(erring, errors)["sets"]
    (by_share,) = compare(runs, contents)["sets"]
    assert by_error["best"] == by_share["best"] is not None
    assert by_error["fronts"] == {
        "model/integer_bytes": by_share["fronts"]["model/integer_bytes"],
        "integer/rate": by_share["fronts"]["integer/seconds_per_image"],
    }
    rates = [erring[i].metrics["integer/rate"] for i in by_error["fronts"]["integer/rate"]]
    assert rates == sorted(rates, reverse=True) and len(rates) > 1  # the cheapest first: the fastest
    assert by_error["tests"] is None


def test_an_effect_on_an_error_has_the_errors_sign(runs, contents, erring, errors):
    def difference(comparison, figure):
        effects = comparison["sets"][0]["effects"][figure]["granularity"]
        mean = {effect["option"]: effect["mean"] for effect in effects}
        return mean["per_tensor"] - mean["per_channel"]

    by_error = difference(compare(erring, errors), "integer/rmse")
    assert by_error == pytest.approx(-difference(compare(runs, contents), "integer/top1"))
    assert by_error == pytest.approx(0.03, abs=0.01)


def test_the_matrix_ranks_by_an_error_from_the_least(runs, errors):
    contents = replace(errors, predictions=Predictions(file="f", truth="t", predicted="p"))
    measured = [replace(run, metrics={"integer/rmse": 1 - run.metrics["integer/top1"]}) for run in runs]
    comparison = compare(measured, contents)
    tests = comparison["sets"][0]["tests"]
    ranked = [measured[i].metrics["integer/rmse"] for i in tests["matrix"]["runs"]]
    assert ranked == sorted(ranked) and tests["best"] == comparison["sets"][0]["best"]
    assert comparison["predictions"] == "p"


def test_without_costs_there_are_no_fronts(runs):
    only_quality = Contents(figures={"integer/top1": Figure(label="x", better="higher", role="quality")})
    (only,) = compare(runs, only_quality)["sets"]
    assert only["fronts"] == {} and only["best"] is not None
