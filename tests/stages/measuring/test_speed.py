"""Speeds are taken in turns, on warmed-up forms, within the time there is, on the threads that are named."""

import itertools
import time

import numpy as np
import pytest
import torch

from stages.artifacts import Speeds
from stages.measuring.speed import measure_speeds

X = torch.zeros(64, 1)


def forms(calls, **milliseconds):
    """Forms that take so long an image, and note their calls."""

    def form(name, seconds):
        def run(x):
            calls.append((name, len(x)))
            time.sleep(seconds * len(x))
            return np.zeros((len(x), 1), np.float32)

        return run

    return {name: form(name, value / 1000) for name, value in milliseconds.items()}


def test_forms_take_turns_on_the_same_images(one_thread):
    calls = []
    speeds = measure_speeds(forms(calls, fast=0.01, slow=0.05), X, threads=1, rounds=4, seconds=0.5)
    assert (speeds.threads, speeds.batch_size) == (1, 64)
    assert set(speeds.forms) == {"fast", "slow"}
    timed = [name for name, size in calls if size == 64][4:]
    changes = sum(a != b for a, b in itertools.pairwise(timed))
    assert changes >= 5  # one after the other there would be 1
    for name, limit in (("fast", 100_000), ("slow", 20_000)):
        speed = speeds.forms[name]
        assert speed.low <= speed.median <= speed.high <= limit


def test_the_first_call_of_a_size_is_never_timed(one_thread):
    known = set()

    def form(x):
        if len(x) not in known:
            known.add(len(x))
            time.sleep(0.05)
        return np.zeros((len(x), 1), np.float32)

    speed = measure_speeds({"integer": form}, X, threads=1, rounds=3, seconds=0.05).forms["integer"]
    assert speed.low > 64 / 0.02


def test_slow_forms_get_fewer_images_and_no_more_time(one_thread):
    start = time.perf_counter()
    speeds = measure_speeds(forms([], slow=4.0), X, threads=1, rounds=50, seconds=0.2)
    assert time.perf_counter() - start < 1.0
    assert speeds.batch_size == 4
    assert speeds.forms["slow"].median == pytest.approx(250, rel=0.2)


def test_threads_are_those_asked_for_and_then_as_before():
    before = torch.get_num_threads()
    seen = []

    def form(x):
        seen.append(torch.get_num_threads())
        return np.zeros((len(x), 1), np.float32)

    measure_speeds({"float": form}, X, threads=before + 1, rounds=3, seconds=0.01)
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before


def test_a_form_that_fails_says_so():
    def form(x):
        raise ValueError("no kernel")

    with pytest.raises(ValueError, match="no kernel"):
        measure_speeds({"integer": form}, X, threads=1, rounds=3, seconds=0.01)


def test_speeds_are_kept_and_recorded(tmp_path, one_thread):
    speeds = measure_speeds(forms([], integer=0.01), X[:8], threads=1, rounds=3, seconds=0.5)
    speeds.save(tmp_path)
    assert Speeds.load(tmp_path) == speeds
    assert speeds.metrics() == {
        "integer/images_per_second": speeds.forms["integer"].median,
        "integer/images_per_second_low": speeds.forms["integer"].low,
        "integer/images_per_second_high": speeds.forms["integer"].high,
        "speed/threads": 1.0,
        "speed/batch_size": 8.0,
    }
