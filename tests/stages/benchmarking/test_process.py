from __future__ import annotations

import os

import pytest

from stages.benchmarking.process import FailedError, peak_memory, started
from tests.stages.benchmarking.competitors import Allocator, Breaker, Dier, Identity, Refuser, Sleeper


@pytest.mark.parametrize("isolated", [False, True])
def test_a_competitor_is_timed_wherever_it_runs(case, isolated):
    with started(Sleeper(seconds=0.02, isolated=isolated), case) as seconds:
        for calls in (1, 3):
            assert 0.02 <= seconds(calls) < 0.2


def test_an_isolated_one_runs_elsewhere_with_the_cases_threads(case):
    with started(Identity(parent=os.getpid()), case) as seconds:
        assert seconds(1) < 1.0


@pytest.mark.parametrize("isolated", [False, True])
def test_one_that_cannot_be_prepared_gives_its_reason_in_a_line(case, isolated):
    with (
        pytest.raises(FailedError, match=r"^ImportError: No module named 'peer'$"),
        started(Refuser(isolated=isolated), case),
    ):
        pass


def test_one_whose_process_ends_is_reported(case):
    with pytest.raises(FailedError, match="ended with status 7"), started(Dier(), case):
        pass


def test_one_that_breaks_later_raises_its_reason(case):
    with started(Breaker(good=4, isolated=True), case) as seconds:
        seconds(1)  # preparing has used two of the four
        with pytest.raises(FailedError, match="RuntimeError: worn out"):
            seconds(1)


def test_nothing_is_left_behind(case):
    with started(Sleeper(seconds=0.0, isolated=True), case):
        assert len(list(case.scratch.glob("*.pickle"))) == 1
    assert list(case.scratch.iterdir()) == []


def test_peak_memory_grows_by_what_the_work_takes(case):
    small, large = (peak_memory(Allocator(megabytes=m), case) for m in (1, 400))
    assert large.growth >= 350 << 20
    assert small.growth < 100 << 20
    with pytest.raises(FailedError, match="ImportError"):
        peak_memory(Refuser(), case)
