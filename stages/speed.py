"""Stage *speed*: how fast the forms of the network are, in turns. It runs every time, on this machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch

from pipeline.context import RunContext
from pipeline.errors import ConfigError
from pipeline.stage import Inputs
from stages.artifacts import FloatModel, IntegerProgram, QuantizedModel, Speeds
from stages.backends.base import Backend, instruction_set_of
from stages.data.base import Data
from stages.data.batches import batches
from stages.measuring.forms import Form, check_backend, float_form, integer_form, prepare, simulated_form
from stages.measuring.speed import LEAST_ROUNDS, measure_speeds


@dataclass(frozen=True, kw_only=True)
class MeasureSpeed:
    """Time the forms on test images, all on the backend's threads, or on torch's where it leaves them open.

    Args:
        data: the data set whose first test images are used.
        backend: executor of the integer program; None where there is no program.
        batch_size: most images a call.
        rounds: turns of each form.
        seconds: for all turns, about; fewer rounds and images are taken where they take longer.
    """

    name: ClassVar[str] = "speed"
    consumes: ClassVar[tuple[type, ...]] = ()
    optional: ClassVar[tuple[type, ...]] = (FloatModel, QuantizedModel, IntegerProgram)
    produces: ClassVar[type] = Speeds
    cacheable: ClassVar[bool] = False

    data: Data
    backend: Backend | None = None
    batch_size: int = 64
    rounds: int = 15
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if self.rounds < LEAST_ROUNDS:
            raise ConfigError(f"speed.rounds={self.rounds}: must be at least {LEAST_ROUNDS}, for quartiles")
        if self.seconds <= 0.0:
            raise ConfigError(
                f"speed.seconds={self.seconds}: must be above 0; stages.speed=null measures none"
            )

    def check(self) -> None:
        """Raise where the data is missing, or what the backend needs."""
        self.data.check()
        check_backend(self.backend)

    def run(self, ctx: RunContext, inputs: Inputs) -> Speeds:
        """Measure ``<form>/images_per_second``."""
        model: FloatModel | None = inputs.get(FloatModel)
        quantized: QuantizedModel | None = inputs.get(QuantizedModel)
        integers: IntegerProgram | None = inputs.get(IntegerProgram)
        program = None if integers is None else integers.program
        threads = getattr(self.backend, "threads", None) or torch.get_num_threads()
        forms: dict[str, Form] = {}
        instruction_set = ""
        if model is not None:
            forms["float"] = float_form(model.graph)
        if (simulated := simulated_form(quantized, program)) is not None:
            forms["simulated"] = simulated
        if program is not None:
            executable, _ = prepare(program, _on_threads(self.backend, threads), self.data)
            forms["integer"] = integer_form(executable, program)
            instruction_set = instruction_set_of(executable)
        x, _ = next(batches(self.data.test(), self.batch_size, self.data))
        speeds = measure_speeds(forms, x, threads=threads, rounds=self.rounds, seconds=self.seconds)
        if not instruction_set:
            return speeds
        ctx.tracker.tags({"backend/instruction_set": instruction_set})
        return replace(speeds, instruction_set=instruction_set)


def _on_threads(backend: Backend | None, threads: int) -> Backend | None:
    """The backend on as many threads as torch."""
    if not hasattr(backend, "threads"):
        return backend
    return cast(Backend, replace(cast(Any, backend), threads=threads))
