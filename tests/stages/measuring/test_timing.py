from __future__ import annotations

import time

import pytest

from stages.measuring.timing import Timing, interleave, timer


def test_median_and_quartiles():
    timing = Timing(samples=(4.0, 1.0, 2.0, 3.0, 100.0))
    assert timing.median == 3.0
    assert timing.quartiles == (2.0, 4.0)


def test_a_timing_without_samples_is_refused():
    with pytest.raises(ValueError, match="samples: there must be at least one"):
        Timing(samples=())


def test_a_timer_makes_one_untimed_call_more():
    calls = []
    seconds = timer(lambda: calls.append(1))(5)
    assert len(calls) == 6
    assert seconds >= 0.0


def test_competitors_alternate_and_begin_in_turn():
    order: list[str] = []

    def timer_of(name):
        def seconds(calls):
            order.append(name)
            return 1.0

        return seconds

    timings, failures = interleave(
        {name: timer_of(name) for name in "abc"}, rounds=4, turn_seconds=0.0, pause=0.0
    )
    assert failures == {}
    assert "".join(order[:3]) == "abc"  # how long a call takes is found out first
    assert "".join(order[3:]) == "abc" + "bca" + "cab" + "abc"
    assert {name: len(timing.samples) for name, timing in timings.items()} == {"a": 4, "b": 4, "c": 4}


def test_a_turn_is_filled_with_calls():
    asked = []

    def seconds(calls):
        asked.append(calls)
        return 0.01

    interleave({"a": seconds}, rounds=2, turn_seconds=0.1, pause=0.0)
    assert asked == [1, 10, 10]


def test_one_that_fails_is_reported_and_the_others_go_on():
    count = iter(range(3))

    def breaks(calls):
        if next(count) == 2:
            raise RuntimeError("worn out")
        return 1.0

    timings, failures = interleave(
        {"a": breaks, "b": lambda calls: 2.0}, rounds=5, turn_seconds=0.0, pause=0.0
    )
    assert list(timings) == ["b"]
    assert len(timings["b"].samples) == 5
    assert str(failures["a"]) == "worn out"


def test_a_limit_ends_the_rounds_but_for_the_least_of_them():
    def slow(calls):
        time.sleep(0.02)
        return 0.02

    def rounds(**settings):
        timings, _ = interleave({"a": slow}, turn_seconds=0.0, pause=0.0, **settings)
        return len(timings["a"].samples)

    assert rounds(rounds=4) == 4
    assert rounds(rounds=4, least_rounds=2, limit=0.0) == 2
    assert 2 < rounds(rounds=100, least_rounds=2, limit=0.2) < 12
