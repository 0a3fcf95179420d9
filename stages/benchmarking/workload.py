"""The networks to measure, and the programs made of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.seed import derive_seed
from pipeline.stage import Stage
from stages.artifacts import FloatModel, IntegerProgram, Observations, QuantizedModel
from stages.benchmarking.agreement import first_output
from stages.benchmarking.calibrating import silent_context
from stages.benchmarking.competitor import Batches, Case
from stages.benchmarking.settling import settle_batch_norm
from stages.data.base import Data
from stages.data.batches import batches, calibration_subset, input_dtype
from stages.graph.capture import capture
from stages.models.base import Model, is_trained

SETTLING = 16
"""Samples that give a random network's BatchNorm its statistics."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One network and its data.

    Args:
        model: the architecture; random weights, drawn from the run's seed, where it has no file of them.
        data: gives input and calibration batches.
        batch_sizes: what the engine is measured on.
    """

    model: Model
    data: Data
    batch_sizes: tuple[int, ...] = (1, 64)

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ValueError(f"batch_sizes={list(self.batch_sizes)}: must be one or more, each at least 1")

    def module(self, seed: int) -> nn.Module:
        """The float network in evaluation mode; random weights are the same for the same seed.

        A random network's BatchNorm has the statistics of a batch of training data (`settle_batch_norm`).
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "weights"))
            module = self.model.build(self.data.shape, self.data.num_classes).eval()
        if not is_trained(self.model):
            x, _ = next(batches(self.data.train(), SETTLING, self.data))
            settle_batch_norm(module, x.to(input_dtype(self.data)))
        return module


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """From a workload to a case: the stages that make its program, run in memory.

    Args:
        observe: the stage *observe*; its data is replaced by the workload's.
        calibrate: the stage *calibrate*.
        convert: the stage *convert*.
    """

    observe: Stage
    calibrate: Stage
    convert: Stage

    def case(self, workload: Workload, *, seed: int, scratch: Path, samples: int | None = None) -> Case:
        """The work for one thread, on the first calibration batch; see `with_input`.

        Args:
            workload: the network.
            seed: the run's.
            scratch: a folder for what is made on the way.
            samples: to calibrate on; None for what `observe` says.
        """
        template: Any = self.observe
        observe = replace(template, data=workload.data, samples=samples or template.samples)
        module = workload.module(seed)
        context = silent_context(scratch, seed)
        model = FloatModel(graph=capture(module, workload.data.shape, dtype=input_dtype(workload.data)))
        observations = observe.run(context, {FloatModel: model})
        quantized: Any = self.calibrate.run(context, {Observations: observations})
        integers: Any = self.convert.run(context, {QuantizedModel: quantized})
        if not isinstance(integers, IntegerProgram):
            raise TypeError(f"convert={self.convert!r}: must be the stage that gives an IntegerProgram")
        ids = calibration_subset(workload.data.train(), observe.samples, seed)
        calibration = Batches(
            data=workload.data, ids=tuple(int(i) for i in ids), batch_size=observe.batch_size
        )
        tokens = input_dtype(workload.data) == torch.int64
        return Case(
            module=_Rounded(module).eval() if tokens else module,
            model=model,
            quantized=quantized,
            program=integers.program,
            x=next(iter(calibration)),
            calibration=calibration,
            threads=1,
            seed=seed,
            scratch=scratch,
        )


class _Rounded(nn.Module):
    """A network that takes tokens' numbers as float32, which all batches are; costs nothing to speak of."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Any:
        return self.module(x.long())


def with_input(case: Case, batch_size: int, threads: int) -> Case:
    """The case on `batch_size` test images, repeated where there are fewer, and what float makes of them."""
    data = case.calibration.data
    x, _ = next(batches(data.test(), batch_size, data))
    times = -(-batch_size // len(x))
    x = x.repeat(times, *[1] * (x.ndim - 1))[:batch_size].contiguous()
    with torch.no_grad():
        expected = first_output(case.module(x))
    return replace(case, x=x, threads=threads, expected=expected)
