"""Speed: the forms of a network in turns, on the same images and threads, after each has been warmed up.

Turns are those of `stages.measuring.timing`. A call takes `batch_size` images, or a quarter of that, and so
on, where so many would take longer than there is time: figures of slow networks hardly depend on it, and the
number is recorded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from stages.artifacts import Speed, Speeds
from stages.measuring.forms import Form
from stages.measuring.timing import interleave, timer

LEAST_ROUNDS = 3
"""Fewer turns have no quartiles."""

_CALLS = 2 * (LEAST_ROUNDS + 1)
"""How often a form is called at least: a turn is an untimed call and a timed one, and one more is a trial."""


def measure_speeds(
    forms: Mapping[str, Form], x: Tensor, *, threads: int, rounds: int, seconds: float
) -> Speeds:
    """Time the forms on `x` or its first images.

    Args:
        forms: by name.
        x: float32 (N, C, H, W), as many images as a call may take.
        threads: of torch, while it lasts; the integers' executable has its own.
        rounds: turns of each form, at least `LEAST_ROUNDS`; fewer where they take longer than `seconds`.
        seconds: for all of it, about.

    Raises:
        Exception: what a form raises.
    """
    with _threads(threads):
        x = x[: _batch_size(forms, x, seconds)]
        timings, failures = interleave(
            {name: timer(partial(form, x)) for name, form in forms.items()},
            rounds=max(rounds, LEAST_ROUNDS),
            turn_seconds=seconds / max(rounds, LEAST_ROUNDS) / max(len(forms), 1) / 2,
            pause=0.001,
            least_rounds=LEAST_ROUNDS,
            limit=seconds,
        )
    for failure in failures.values():
        raise failure
    speeds = {}
    for name, timing in timings.items():
        fast, slow = timing.quartiles
        speeds[name] = Speed(median=len(x) / timing.median, low=len(x) / slow, high=len(x) / fast)
    return Speeds(forms=speeds, threads=threads, batch_size=len(x))


def _batch_size(forms: Mapping[str, Form], x: Tensor, seconds: float) -> int:
    """All of `x`, a quarter of it, or a quarter of that …: the most that `seconds` allow, at least one."""
    sizes = [len(x)]
    while sizes[0] > 1:
        sizes.insert(0, max(1, sizes[0] // 4))
    size = sizes[0]
    for larger in sizes:
        if _CALLS * sum(_seconds(form, x[:larger]) for form in forms.values()) > seconds:
            break
        size = larger
    return size


def _seconds(form: Form, x: Tensor) -> float:
    form(x)  # the first call prepares kernels for this batch size
    start = time.perf_counter()
    form(x)
    return time.perf_counter() - start


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
