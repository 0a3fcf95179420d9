"""Timing in turns: competitors alternate, so that what slows the machine down slows them all.

A round gives each competitor one turn; a turn is one untimed call, which brings its code, data and threads
back, and then as many timed calls as fill `turn_seconds`, of which the mean is the round's sample. Rounds
begin with another competitor each time, so that none always runs behind the same one. What is compared are
medians over rounds; quartiles say how steady they are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

Step = Callable[[], object]
"""The work itself."""

Clock = Literal["wall", "cpu"]
"""Time that passes, or time in which this process computes, on all of its threads together."""

Timer = Callable[[int], float]
"""Does one untimed call of the work, then the given number of calls; returns seconds a call."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds a call, one sample a round."""

    samples: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError("samples: there must be at least one")

    @property
    def median(self) -> float:
        """Half of the rounds were faster."""
        return float(np.median(self.samples))

    @property
    def quartiles(self) -> tuple[float, float]:
        """A quarter of the rounds was faster than the first, a quarter slower than the second."""
        low, high = np.quantile(self.samples, (0.25, 0.75))
        return float(low), float(high)


def timer(step: Step, clock: Clock = "wall") -> Timer:
    """Time calls in this process."""
    now = time.perf_counter if clock == "wall" else time.process_time

    def seconds(calls: int) -> float:
        step()
        start = now()
        for _ in range(calls):
            step()
        return (now() - start) / calls

    return seconds


def median_seconds(step: Step, *, seconds: float, rounds: int = 9) -> float:
    """The median of `rounds` calls, after one that warms up; fewer where they take longer than `seconds`."""
    step()
    taken: list[float] = []
    begun = time.perf_counter()
    while not taken or (len(taken) < rounds and time.perf_counter() - begun < seconds):
        start = time.perf_counter()
        step()
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def interleave(
    timers: Mapping[str, Timer],
    *,
    rounds: int,
    turn_seconds: float = 0.1,
    pause: float = 0.005,
    least_rounds: int = 1,
    limit: float = math.inf,
) -> tuple[dict[str, Timing], dict[str, Exception]]:
    """Time all competitors in turns; returns the timings, and what those raised that have none.

    Args:
        timers: by competitor.
        rounds: samples a competitor.
        turn_seconds: a turn makes as many calls as fit, at least one.
        pause: seconds before each turn, in which threads of the one before stop spinning.
        least_rounds: that many are made whatever they take.
        limit: no further round begins after so many seconds.
    """
    failures: dict[str, Exception] = {}

    def turn(name: str, calls: int) -> float:
        try:
            return timers[name](calls)
        except Exception as error:  # the others go on
            failures[name] = error
            return math.nan

    begin = time.perf_counter()
    names = list(timers)
    calls = {}
    for name in names:
        seconds = turn(name, 1)
        calls[name] = 1 if name in failures else max(1, int(turn_seconds / max(seconds, 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        if number >= least_rounds and time.perf_counter() - begin > limit:
            break
        start = number % max(len(names), 1)
        for name in names[start:] + names[:start]:
            if name not in failures:
                time.sleep(pause)
                samples[name].append(turn(name, calls[name]))
    timings = {name: Timing(samples=tuple(samples[name])) for name in names if name not in failures}
    return timings, failures
