"""Stage *benchmark_calibration*: observation and calibration beside the forward pass and the peers' tools."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import ConfigError, alternatives
from pipeline.stage import Inputs
from stages.benchmarking.competition import Competition
from stages.benchmarking.kl_search import kl_search_seconds
from stages.benchmarking.machine import machine
from stages.benchmarking.process import FailedError, peak_memory
from stages.benchmarking.result import Benchmark, Row
from stages.benchmarking.show import record


@dataclass(frozen=True, kw_only=True)
class BenchmarkCalibration:
    """Observation and calibration beside the plain forward pass and the peers' tools.

    Args:
        competition: who competes over what.
        samples: sizes of the calibration set to time.
        memory_of: the competitor whose peak memory is measured; None for none.
        memory_samples: sizes of the calibration set to measure memory with.
    """

    name: ClassVar[str] = "benchmark_calibration"
    consumes: ClassVar[tuple[type, ...]] = ()
    produces: ClassVar[type] = Benchmark
    cacheable: ClassVar[bool] = False

    competition: Competition
    samples: tuple[int, ...] = (512,)
    memory_of: str | None = None
    memory_samples: tuple[int, ...] = (256, 512, 2048)

    def check(self) -> None:
        """Raise where a workload cannot be built, and for a competitor that is not there."""
        self.competition.check()
        if self.memory_of is not None and self.competition.competitors.get(self.memory_of) is None:
            names = [name for name, one in self.competition.competitors.items() if one is not None]
            raise ConfigError(f"memory_of={self.memory_of}: {alternatives(self.memory_of, names)}")

    def run(self, ctx: RunContext, inputs: Inputs) -> Benchmark:
        """Measure; tables on the console, benchmark.json and a plot in the run's directory."""
        rows: list[Row] = []
        facts = machine()
        with tempfile.TemporaryDirectory() as scratch:
            timed, measured = (Path(scratch) / name for name in ("timed", "measured"))
            timed.mkdir()
            measured.mkdir()
            for _, _, found in self.competition.over_samples(self.samples, ctx.seed, timed, ctx.console):
                rows += found
            figures = {**kl_search_seconds(), **self._memory(ctx, measured)}
        benchmark = Benchmark(
            baseline=self.competition.baseline,
            size="samples",
            rows=tuple(rows),
            figures=figures,
            machine=facts,
        )
        return record(benchmark, ctx)

    def _memory(self, ctx: RunContext, scratch: Path) -> Mapping[str, float]:
        """Peak bytes of a process that calibrates, by number of samples."""
        competitor = self.competition.competitors.get(self.memory_of or "")
        figures: dict[str, float] = {}
        if competitor is None:
            return figures
        for setting, case in self.competition.by_samples(self.memory_samples, ctx.seed, scratch):
            if setting.threads != self.competition.threads[0]:
                continue
            try:
                peak = peak_memory(competitor, case)
            except FailedError as error:
                ctx.console.warn(f"peak memory of {self.memory_of} on {setting}: {error}")
                continue
            name = f"peak_memory/{setting.workload}/{setting.size}"
            figures |= {f"{name}/bytes": float(peak.after), f"{name}/growth_bytes": float(peak.growth)}
        return figures
