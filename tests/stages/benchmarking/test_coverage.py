"""A network is followed as far as it goes, and what stopped it is told."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from stages.benchmarking.coverage import Coverage, Followed, Follower
from stages.benchmarking.zoo import Network
from stages.integer.interpreter import Interpreter
from tests.composed import built
from tests.stages.benchmarking.zoos import Sleeping, SmallZoo


@pytest.fixture(scope="module")
def follower() -> Follower:
    calibrate = built().stages["calibrate"]
    return Follower(quantizer=calibrate.quantizer, granularity=calibrate.granularity)


def followed(follower: Follower, family: str) -> Followed:
    return follower.follow("small", family, SmallZoo().network(family), seed=0)


@pytest.mark.parametrize("family", ["plain", "words"])
def test_a_network_that_goes_all_the_way(follower: Follower, family: str):
    found = followed(follower, family)
    assert (found.captured, found.equal, found.refused, found.islands) == (True, True, "", {})
    assert found.on_integers == 1.0 and found.sqnr_db > 20.0
    assert "100.0% of operations on integers" in str(found)


def test_what_stays_float_is_told_with_share_and_reason(follower: Follower):
    found = followed(follower, "cumulating")
    assert found.captured and found.equal and found.operations == 72
    assert found.on_integers == 64 / 72
    assert found.islands == {"cumsum": "11.1%: has no integer form"}
    assert "float: cumsum 11.1%: has no integer form" in str(found)


def test_a_refusal_and_a_fault_are_told_and_raise_nothing(follower: Follower):
    mixing, broken = followed(follower, "mixing"), followed(follower, "broken")
    assert not mixing.captured and "it mixes the samples" in mixing.refused
    assert not broken.captured and broken.refused == "RuntimeError: no such thing"
    assert "refused: RuntimeError: no such thing" in str(broken)


def test_values_that_differ_are_named(follower: Follower, monkeypatch):
    trace = Interpreter.trace

    def off_by_one(self, q):
        levels = trace(self, q)
        return {**levels, self.program.output: levels[self.program.output] + 1}

    monkeypatch.setattr(Interpreter, "trace", off_by_one)
    found = followed(follower, "plain")
    assert found.captured and not found.equal
    assert found.refused.startswith("simulation and integers differ at '") and "of 1 values" in found.refused


def test_one_that_takes_too_long_is_stopped_even_where_all_errors_are_caught(follower: Follower):
    network = Network(name="sleeping", parameters=0, shape=(8,), build=Sleeping)
    begun = time.perf_counter()
    found = replace(follower, timeout=1.0).follow("small", "sleeping", network, seed=0)
    assert found.refused == "takes longer than 1 s" and not found.equal
    assert time.perf_counter() - begun < 10.0


def test_limits_are_checked(follower: Follower):
    with pytest.raises(ValueError, match=r"samples=0, timeout=240.0: samples must be at least 1"):
        replace(follower, samples=0)
    with pytest.raises(ValueError, match="the timeout above 0"):
        replace(follower, timeout=0.0)


def test_figures_count_families_and_survive_on_disk(tmp_path: Path):
    one = Followed(zoo="a", family="x", captured=True, equal=True, operations=10, on_integers=0.95)
    networks = (one, replace(one, family="y", on_integers=0.94), replace(one, family="z", equal=False))
    networks += (Followed(zoo="b", family="x", refused="why", islands={"f": "1.0%: r"}),)
    coverage = Coverage(networks=networks, left_out={"a/w": 10**9})
    assert coverage.metrics() == {
        "coverage/a/families": 3.0,
        "coverage/a/captured": 3.0,
        "coverage/a/equal": 2.0,
        "coverage/a/integers_95": 1.0,
        "coverage/b/families": 1.0,
        "coverage/b/captured": 0.0,
        "coverage/b/equal": 0.0,
        "coverage/b/integers_95": 0.0,
    }
    coverage.save(tmp_path)
    assert Coverage.load(tmp_path) == coverage
