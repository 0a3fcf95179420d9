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
from stages.benchmarking.competitor import Case, Competitor, is_held, is_peer
from stages.benchmarking.holding import check_held
from stages.benchmarking.process import FailedError, Ready, reason, started
from stages.benchmarking.result import Row, Setting
from stages.benchmarking.workload import Preparation, Workload, with_input
from stages.data.batches import input_dtype
from stages.graph.capture import capture
from stages.graph.fold import fold_batch_norm
from stages.measuring.timing import Clock, Timer, interleave

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
        networks: the workloads that take part, by name; None for all.
        isa: the instruction set that ours runs on, and that peers are held to where they can be (`holding`);
            None for what the CPU has.
        least_agreement: correlation with the float network's output below which a competitor is not timed.
        clock: ``wall``, or ``cpu`` for a machine that is busy otherwise: the time in which the competitor's
            process was computing, which says the same of one thread alone.
    """

    workloads: Mapping[str, Workload | None]
    competitors: Mapping[str, Competitor | None]
    baseline: str
    preparation: Preparation
    threads: tuple[int, ...] = (1, 2)
    rounds: int = 15
    turn_seconds: float = 0.1
    networks: tuple[str, ...] | None = None
    isa: str | None = None
    least_agreement: float = 0.5
    clock: Clock = "wall"

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
        for name in self.networks or ():
            if name not in self.workloads:
                raise ValueError(f"networks: {name}: {alternatives(name, self.workloads)}")
        if not -1.0 <= self.least_agreement <= 1.0:
            raise ValueError(f"least_agreement={self.least_agreement}: must be a correlation, in -1 .. 1")
        check_held(self.isa)
        if self.clock == "cpu" and max(self.threads) > 1:
            raise ValueError(
                f"clock=cpu with threads={list(self.threads)}: several threads add up their times; "
                "remedy: threads=[1], or clock=wall"
            )

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
        """The workloads that are not null, of those that `networks` names."""
        names = self.workloads if self.networks is None else self.networks
        found = {name: self.workloads[name] for name in names}
        return {name: workload for name, workload in found.items() if workload is not None}

    def by_batch(self, seed: int, scratch: Path) -> Iterator[tuple[Setting, Case]]:
        """Settings that differ in batch size and threads."""
        for name, workload in self.chosen().items():
            case = self.preparation.case(workload, seed=seed, scratch=_folder(scratch, name))
            for size in workload.batch_sizes:
                for threads in self.threads:
                    setting = Setting(workload=name, size=size, threads=threads)
                    yield setting, replace(with_input(case, size, threads), isa=self.isa, clock=self.clock)

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
        agreements: dict[str, float | None] = {}
        failures: dict[str, str] = {}
        with ExitStack() as stack:
            with console.progress(f"preparing {setting}", len(competitors)) as advance:
                for name, competitor in competitors.items():
                    try:
                        ready = stack.enter_context(started(competitor, case))
                        agreements[name] = ready.agreement
                        self._check(ready)
                        timers[name] = ready
                    except FailedError as error:
                        failures[name] = str(error)
                    advance(1)
            timings, broken = interleave(timers, rounds=self.rounds, turn_seconds=self.turn_seconds)
        failures |= {name: reason(error) for name, error in broken.items()}
        rows = [
            Row(
                setting=setting,
                competitor=name,
                timing=timings.get(name),
                failure=failures.get(name, ""),
                agreement=agreements.get(name),
                peer=is_peer(competitor),
                held=self.isa is None or is_held(competitor),
            )
            for name, competitor in competitors.items()
        ]
        for row in rows:
            console.say(f"  {row}")
            log.info("%s", row)
        return rows

    def _check(self, ready: Ready) -> None:
        if ready.agreement is not None and ready.agreement < self.least_agreement:
            raise FailedError(
                f"its outputs are not the network's: correlation {ready.agreement:.3f} with float, "
                f"below least_agreement={self.least_agreement:g}"
            )


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder
