"""The coverage benchmark over a small zoo: each family told once, in the end all together."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console as RichConsole

from pipeline.console import Console
from pipeline.errors import ConfigError
from stages.benchmark_coverage import BenchmarkCoverage
from stages.benchmarking.calibrating import silent_context
from stages.benchmarking.coverage import Coverage, Follower
from tests.composed import built
from tests.stages.benchmarking.zoos import SmallZoo


@pytest.fixture(scope="module")
def stage() -> BenchmarkCoverage:
    calibrate = built().stages["calibrate"]
    follower = Follower(quantizer=calibrate.quantizer, granularity=calibrate.granularity)
    return BenchmarkCoverage(zoos={"small": SmallZoo()}, follower=follower)


def test_each_family_is_followed_and_told(stage: BenchmarkCoverage, tmp_path: Path):
    text = io.StringIO()
    console = Console(rich=RichConsole(file=text, width=150))
    context = replace(silent_context(tmp_path, seed=0), console=console)
    stage.check()
    coverage = stage.run(context, {})
    assert coverage.metrics() == {
        "coverage/small/families": 6.0,
        "coverage/small/captured": 3.0,
        "coverage/small/equal": 3.0,
        "coverage/small/integers_95": 2.0,
    }
    assert coverage.left_out == {"small/huge": 10**9}
    lines = [json.loads(line) for line in (tmp_path / "coverage.jsonl").read_text().splitlines()]
    assert [one["family"] for one in lines] == ["plain", "cumulating", "mixing", "broken", "words", "none"]
    assert lines[-1]["refused"] == "no model of none can be built"
    assert Coverage.load(tmp_path) == coverage
    shown = text.getvalue()
    assert "small/huge: left out, 1,000,000,000 parameters" in shown
    assert "cumsum in float: 11.1%: has no integer form" in shown


def test_families_may_be_chosen(stage: BenchmarkCoverage, tmp_path: Path):
    coverage = replace(stage, families=("words",)).run(silent_context(tmp_path, seed=0), {})
    assert [one.family for one in coverage.networks] == ["words"]


def test_unknown_names_are_refused(stage: BenchmarkCoverage):
    with pytest.raises(ConfigError, match=r"benchmark.families=plan: did you mean 'plain'\?"):
        replace(stage, families=("plan",)).check()
    with pytest.raises(ConfigError, match=r"benchmark.zoos=smal: did you mean 'small'\?"):
        replace(stage, chosen=("smal",)).check()


def test_the_experiment_builds_it():
    stage = built("experiment=benchmark_coverage", "benchmark.families=[resnet]").stages["benchmark_coverage"]
    assert isinstance(stage, BenchmarkCoverage)
    assert stage.families == ("resnet",) and stage.most_parameters == 90e6
    assert stage.chosen == tuple(stage.zoos) == ("timm", "transformers")
