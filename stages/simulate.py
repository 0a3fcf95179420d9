"""Stage *simulate*: the simulation on the samples of the float baseline, where no integers can run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import Baseline, Metrics, QuantizedModel
from stages.data.base import Data
from stages.data.batches import batches
from stages.graph.simulate import simulation_of
from stages.measuring.parity import sqnr_db


@dataclass(frozen=True, kw_only=True)
class Simulate:
    """Run the baseline's samples through the simulation; takes the place of *convert* and *evaluate*.

    Args:
        data: the data set whose test split the baseline took its samples from.
        batch_size: samples at a time.
    """

    name: ClassVar[str] = "simulate"
    consumes: ClassVar[tuple[type, ...]] = (Baseline, QuantizedModel)
    produces: ClassVar[type] = Metrics
    cacheable: ClassVar[bool] = True

    data: Data
    batch_size: int = 256

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> Metrics:
        """Measure ``simulated/top1``, ``simulated/sqnr_db`` and ``simulated/images_per_second``."""
        baseline: Baseline = inputs[Baseline]
        simulation = simulation_of(inputs[QuantizedModel].quantized)
        ids = baseline.sample_ids
        logits: list[NDArray[np.float32]] = []
        seconds = 0.0
        with torch.inference_mode(), ctx.console.progress("simulating", len(ids)) as advance:
            for x, _ in batches(self.data.test(), self.batch_size, self.data, order=ids):
                if not logits:
                    simulation(x)  # the first call prepares kernels
                start = time.perf_counter()
                logits.append(simulation(x).numpy())
                seconds += time.perf_counter() - start
                advance(len(x))
        simulated = np.concatenate(logits)
        error = np.square(simulated - baseline.logits, dtype=np.float64).sum()
        predictions = {
            name: values.argmax(axis=1).astype(np.int64)
            for name, values in (("float", baseline.logits), ("simulated", simulated))
        }
        values = {
            f"{name}/top1": float((predicted == baseline.labels).mean())
            for name, predicted in predictions.items()
        }
        values["simulated/sqnr_db"] = sqnr_db(
            float(np.square(baseline.logits, dtype=np.float64).sum()), float(error)
        )
        values["simulated/images_per_second"] = len(ids) / seconds
        return Metrics(
            values={**values, **baseline.values},
            predictions={"labels": baseline.labels, **predictions},
            notes=("backend=simulation: no integers were run; all figures are the simulation's",),
        )
