from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

from stages.backends.reference import Reference
from stages.benchmarking.competitor import is_compared
from stages.benchmarking.engine import Engine
from stages.benchmarking.process import FailedError, peak_memory, reason, started
from tests.stages.benchmarking.competitors import (
    Allocator,
    Answerer,
    Breaker,
    Dier,
    Identity,
    Packaged,
    Refuser,
    Sleeper,
)


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


@pytest.mark.parametrize("isolated", [False, True])
def test_what_it_computes_is_compared_wherever_it_runs(case, isolated):
    case = replace(case, expected=np.arange(8.0))
    with started(Answerer(factor=2.0, isolated=isolated), case) as ready:
        assert ready.agreement == pytest.approx(1.0)
    with started(Sleeper(seconds=0.0, isolated=isolated), case) as ready:
        assert ready.agreement is None


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package.part"])
def test_one_whose_package_is_missing_is_not_started_and_names_the_extra(case, package):
    one = Packaged(packages=("numpy", package))
    with (
        pytest.raises(FailedError, match=rf"{package} is not installed; pip install '\.\[some\]'"),
        started(one, case),
    ):
        pass
    with started(Packaged(packages=("numpy",)), case):
        pass


def test_a_reason_leaves_out_where_openvino_was():
    error = RuntimeError(
        "Exception from src/core/a.cpp:117:\nException from src/b.cpp:7:\nShapes differ\nmore"
    )
    assert reason(error) == "RuntimeError: Shapes differ"
    assert reason(RuntimeError("Exception from src/core/a.cpp:117:")).endswith("a.cpp:117:")


def test_a_program_of_another_run_is_not_compared(case):
    case = replace(case, expected=np.arange(8.0))
    with started(Answerer(factor=0.0, compared=False), case) as ready:
        assert ready.agreement is None
    assert is_compared(Engine(backend=Reference()))
    assert not is_compared(Engine(backend=Reference(), program="elsewhere"))
