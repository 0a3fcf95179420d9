"""Stage *benchmark_training*: a step of quantization-aware training beside a float step and the peers'."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.benchmarking.competition import Competition
from stages.benchmarking.machine import machine
from stages.benchmarking.result import Benchmark, Row
from stages.benchmarking.show import record


@dataclass(frozen=True, kw_only=True)
class BenchmarkTraining:
    """A step of quantization-aware training beside a float training step and the peers'.

    Args:
        competition: who competes over what.
    """

    name: ClassVar[str] = "benchmark_training"
    consumes: ClassVar[tuple[type, ...]] = ()
    produces: ClassVar[type] = Benchmark
    cacheable: ClassVar[bool] = False

    competition: Competition

    def check(self) -> None:
        """Raise where a workload cannot be built."""
        self.competition.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> Benchmark:
        """Measure; tables on the console, benchmark.json and a plot in the run's directory."""
        facts, baseline = machine(), self.competition.baseline
        rows: list[Row] = []
        with tempfile.TemporaryDirectory() as scratch:
            for _, _, found in self.competition.over_batches(ctx.seed, Path(scratch), ctx.console):
                rows += found
        return record(Benchmark(baseline=baseline, size="batch", rows=tuple(rows), machine=facts), ctx)
