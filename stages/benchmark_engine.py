"""Stage *benchmark_engine*: the integer engine beside its peers, here and now."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.backends.base import Backend
from stages.backends.native_kernels.library import check_isa
from stages.benchmarking.competition import Competition
from stages.benchmarking.competitor import Case
from stages.benchmarking.layers import LayerTime, layer_times
from stages.benchmarking.limit import int8_limit
from stages.benchmarking.machine import machine
from stages.benchmarking.result import Benchmark, Row
from stages.benchmarking.show import record
from stages.benchmarking.summary import summary_metrics
from stages.integer.interpreter import quantize_input


@dataclass(frozen=True, kw_only=True)
class BenchmarkEngine:
    """Integer programs on the pipeline's engine and on its peers, and the float network on theirs.

    Args:
        competition: who competes over what.
        layers: the backend whose operators are timed one by one; None for none.
    """

    name: ClassVar[str] = "benchmark_engine"
    consumes: ClassVar[tuple[type, ...]] = ()
    produces: ClassVar[type] = Benchmark
    cacheable: ClassVar[bool] = False

    competition: Competition
    layers: Backend | None = None

    def check(self) -> None:
        """Raise where a workload cannot be built, or this CPU lacks the instruction set asked for."""
        check_isa(self.competition.isa)
        self.competition.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> Benchmark:
        """Measure; tables on the console, benchmark.json and a plot in the run's directory."""
        rows: list[Row] = []
        layers: dict[str, tuple[LayerTime, ...]] = {}
        figures: dict[str, float] = {}
        facts = machine(self.competition.isa)
        with tempfile.TemporaryDirectory() as scratch:
            measured = self.competition.over_batches(ctx.seed, Path(scratch), ctx.console)
            for setting, case, found in measured:
                rows += found
                limit = int8_limit(case.threads, case.isa, clock=case.clock)
                if self.layers is not None and limit is not None:
                    figures[f"int8_limit/threads{case.threads}/operations_per_second"] = limit
                    layers[str(setting)] = self._layers(self.layers, case, limit)
        benchmark = Benchmark(
            baseline=self.competition.baseline,
            size="batch",
            rows=tuple(rows),
            layers=layers,
            figures=figures,
            machine=facts | {"clock": self.competition.clock},
        )
        benchmark = replace(benchmark, figures=figures | summary_metrics(benchmark))
        return record(benchmark, ctx)

    def _layers(self, backend: Any, case: Case, limit: float) -> tuple[LayerTime, ...]:
        executable = replace(backend, threads=case.threads).compile(case.program)
        q = quantize_input(case.program, case.x.numpy())
        return layer_times(case.program, executable, q, limit)
