"""Settings times competitors: all of a setting's competitors are alive at once, and take turns."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from pipeline.console import Console, duration
from pipeline.errors import ConfigError, alternatives
from stages.benchmarking.competitor import Case, Competitor
from stages.benchmarking.process import FailedError, reason, started
from stages.benchmarking.result import Row, Setting
from stages.benchmarking.workload import Preparation, Workload, with_input
from stages.data.batches import input_dtype
from stages.graph.capture import capture
from stages.graph.fold import fold_batch_norm
from stages.measuring.timing import Timer, interleave

log = logging.getLogger(__name__)

Measured: TypeAlias = tuple[Setting, Case, list[Row]]
"""A setting, what was run in it, and what each competitor took."""


@dataclass(frozen=True, kw_only=True)
class Competition:
    """Who competes, over what, for how long.

    Args:
        workloads: networks by name; null leaves one out.
        competitors: by name; null leaves one out.
        baseline: the competitor whose median the others' are divided by.
        preparation: makes the networks' programs.
        threads: numbers of threads to measure with.
        rounds: samples a competitor; 15 or more for quartiles that mean something.
        turn_seconds: length of a turn, which holds at least one call.
    """

    workloads: Mapping[str, Workload | None]
    competitors: Mapping[str, Competitor | None]
    baseline: str
    preparation: Preparation
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 15
    turn_seconds: float = 0.1

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds={self.rounds}: must be at least 1")
        if self.turn_seconds < 0.0:
            raise ValueError(f"turn_seconds={self.turn_seconds}: must not be negative")
        if not self.threads or min(self.threads) < 1:
            raise ValueError(f"threads={list(self.threads)}: must be one or more, each at least 1")
        chosen = [name for name, competitor in self.competitors.items() if competitor is not None]
        if self.baseline not in chosen:
            raise ValueError(f"baseline={self.baseline}: {alternatives(self.baseline, chosen)}")

    def check(self) -> None:
        """Raise where there is no workload, data is missing, or a network cannot be built or captured."""
        if not self.chosen():
            raise ConfigError("workloads: every one of them is null; leave at least one")
        for workload in self.chosen().values():
            workload.data.check()
            fold_batch_norm(
                capture(workload.module(seed=0), workload.data.shape, dtype=input_dtype(workload.data))
            )

    def chosen(self) -> dict[str, Workload]:
        """The workloads that are not null."""
        return {name: workload for name, workload in self.workloads.items() if workload is not None}

    def by_batch(self, seed: int, scratch: Path) -> Iterator[tuple[Setting, Case]]:
        """Settings that differ in batch size and threads."""
        for name, workload in self.chosen().items():
            case = self.preparation.case(workload, seed=seed, scratch=_folder(scratch, name))
            for size in workload.batch_sizes:
                for threads in self.threads:
                    yield Setting(workload=name, size=size, threads=threads), with_input(case, size, threads)

    def by_samples(self, samples: Iterable[int], seed: int, scratch: Path) -> Iterator[tuple[Setting, Case]]:
        """Settings that differ in the number of calibration samples and threads."""
        for name, workload in self.chosen().items():
            for size in samples:
                folder = _folder(scratch, f"{name}_{size}")
                case = self.preparation.case(workload, seed=seed, scratch=folder, samples=size)
                for threads in self.threads:
                    yield Setting(workload=name, size=size, threads=threads), replace(case, threads=threads)

    def over_batches(self, seed: int, scratch: Path, console: Console) -> Iterator[Measured]:
        """Measure the settings of `by_batch`, with a line a measurement and one on the time left."""
        total = sum(len(workload.batch_sizes) for workload in self.chosen().values()) * len(self.threads)
        return self._measured(self.by_batch(seed, scratch), total, console)

    def over_samples(
        self, samples: Sequence[int], seed: int, scratch: Path, console: Console
    ) -> Iterator[Measured]:
        """Measure the settings of `by_samples`, with a line a measurement and one on the time left."""
        total = len(self.chosen()) * len(samples) * len(self.threads)
        return self._measured(self.by_samples(samples, seed, scratch), total, console)

    def _measured(
        self, settings: Iterable[tuple[Setting, Case]], total: int, console: Console
    ) -> Iterator[Measured]:
        begin = time.monotonic()
        for done, (setting, case) in enumerate(settings, start=1):
            yield setting, case, self.rows(setting, case, console)
            left = (time.monotonic() - begin) / done * (total - done)
            console.say(f"  {done} of {total} settings measured, about {duration(left)} left")

    def rows(self, setting: Setting, case: Case, console: Console) -> list[Row]:
        """Every competitor in one setting; one that fails has a row that says why."""
        competitors = {name: one for name, one in self.competitors.items() if one is not None}
        timers: dict[str, Timer] = {}
        failures: dict[str, str] = {}
        with ExitStack() as stack:
            with console.progress(f"preparing {setting}", len(competitors)) as advance:
                for name, competitor in competitors.items():
                    try:
                        timers[name] = stack.enter_context(started(competitor, case))
                    except FailedError as error:
                        failures[name] = str(error)
                    advance(1)
            timings, broken = interleave(timers, rounds=self.rounds, turn_seconds=self.turn_seconds)
        failures |= {name: reason(error) for name, error in broken.items()}
        rows = [
            Row(setting=setting, competitor=n, timing=timings.get(n), failure=failures.get(n, ""))
            for n in competitors
        ]
        for row in rows:
            console.say(f"  {row}")
            log.info("%s", row)
        return rows


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder
