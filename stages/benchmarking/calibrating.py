"""The pipeline's own observation and calibration, as the stages of that name do them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.stage import Stage
from pipeline.store.local import Store
from pipeline.tracking.null import Null
from stages.artifacts import FloatModel, Observations
from stages.benchmarking.competitor import Case
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class Calibrating:
    """From the float network and the calibration batches to scales and zero points; nothing is stored.

    Args:
        observe: the stage *observe*; its data, samples and batch size are replaced by the case's.
        calibrate: the stage *calibrate*; None to observe only.
    """

    observe: Stage
    calibrate: Stage | None = None
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """Both stages, one after the other."""
        template: Any = self.observe
        calibration = case.calibration
        observe = replace(
            template,
            data=calibration.data,
            samples=len(calibration.ids),
            batch_size=calibration.batch_size,
        )
        context = silent_context(case.scratch, case.seed)

        def step() -> Any:
            torch.set_num_threads(case.threads)
            observations = observe.run(context, {FloatModel: case.model})
            if self.calibrate is None:
                return observations
            return self.calibrate.run(context, {Observations: observations})

        return step


def silent_context(folder: Path, seed: int) -> RunContext:
    """A context for stages that run inside another one: nothing is shown, recorded or stored."""
    return RunContext(
        run_dir=folder,
        seed=seed,
        device="cpu",
        tracker=Null(),
        store=Store(folder / "store"),
        console=Console(quiet=True),
    )
