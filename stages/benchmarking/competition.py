"""Settings times competitors: all of a setting's competitors are alive at once, and take turns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.console import Console
from pipeline.errors import ConfigError, alternatives
from stages.benchmarking.competitor import Case, Competitor
from stages.benchmarking.process import FailedError, reason, started
from stages.benchmarking.result import Row, Setting
from stages.benchmarking.workload import Preparation, Workload, with_input
from stages.data.batches import input_dtype
from stages.graph.capture import capture
from stages.graph.fold import fold_batch_norm
from stages.measuring.timing import Timer, interleave


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
        return [
            Row(setting=setting, competitor=n, timing=timings.get(n), failure=failures.get(n, ""))
            for n in competitors
        ]


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder
