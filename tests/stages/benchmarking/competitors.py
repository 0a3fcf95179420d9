"""Competitors that tests watch; importable by the processes that run them."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import numpy as np

from stages.benchmarking.competitor import Case
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class Sleeper:
    """Works for a known time."""

    seconds: float
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        print("libraries print")
        return lambda: time.sleep(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Refuser:
    """Cannot be prepared."""

    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        raise ImportError("No module named 'peer'\nsecond line")


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """Works a few times, and then raises."""

    good: int
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        left = iter(range(self.good))

        def step() -> None:
            if next(left, None) is None:
                raise RuntimeError("worn out")

        return step


@dataclass(frozen=True, kw_only=True)
class Dier:
    """Its process ends, as one does that the system kills."""

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        os._exit(7)


@dataclass(frozen=True, kw_only=True)
class Allocator:
    """Takes a known amount of memory, and gives it back."""

    megabytes: int
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        return lambda: bytearray(b"x" * (self.megabytes << 20))


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Raises unless it runs in the expected process, with the case's threads."""

    parent: int
    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        import torch

        def step() -> None:
            if os.getpid() == self.parent or threading.current_thread() is not threading.main_thread():
                raise RuntimeError("the same process")
            if torch.get_num_threads() != case.threads:
                raise RuntimeError(f"{torch.get_num_threads()} threads")

        return step


@dataclass(frozen=True, kw_only=True)
class Variable:
    """Raises where its process does not have a variable of the environment."""

    name: str
    value: str
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        found = os.environ.get(self.name)
        if found != self.value:
            raise RuntimeError(f"{self.name} is {found}, not {self.value}")
        return lambda: None


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """Gives what is expected, times a factor, and noise instead where that is 0."""

    factor: float
    isolated: bool = False
    compared: bool = True

    def prepare(self, case: Case) -> Step:
        y = np.zeros(8) if case.expected is None else case.expected
        noise = np.random.default_rng(0).standard_normal(y.size)
        return lambda: y * self.factor if self.factor else noise


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """Needs packages."""

    packages: tuple[str, ...]
    extra: str = "some"
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        return lambda: None
