"""``python -m pipeline.check``: a network before a run: what would run where, and what to change."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pipeline.console import Console
from pipeline.errors import PipelineError
from stages.backends.base import Backend
from stages.data.base import Data
from stages.data.batches import input_dtype
from stages.integer.program import Requantize
from stages.measuring.forms import check_backend
from stages.measuring.preflight import Preflight, inspect_network, inspect_program
from stages.models.base import Model, output_of, program_of
from stages.quant.granularity.base import Granularity
from stages.quant.quantizers.base import WeightsAndActivations
from stages.reporting.text import count, percent
from stages.tasks.base import Task
from stages.tasks.classification import Classification

PLACES = {
    "engine": "integers, engine",
    "reference": "integers, reference",
    "float island": "float island",
    "unknown": "?",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """Build the model, follow it to a program, and print what was found.

    Args:
        model: the network.
        data: the data set, for the shape of its samples and the number of its classes; not used where `shape`
            is given.
        quantizer: the schemes of weights and activations.
        granularity: which weights share a scale.
        requantize: how accumulators become levels.
        backend: what one sample is timed on; None to time nothing.
        shape: of one sample; None for the data's.
        num_classes: None for the data's, and for ImageNet's 1000 where `shape` is given.
        tokens: whether samples of `shape` are numbers of tokens; else the data says so.
        task: what the outputs mean, which decides how many there are.
    """

    model: Model
    data: Data | None
    quantizer: WeightsAndActivations
    granularity: Granularity
    requantize: Requantize
    backend: Backend | None
    shape: tuple[int, ...] | None = None
    num_classes: int | None = None
    tokens: bool = False
    task: Task = field(default_factory=Classification)

    def __post_init__(self) -> None:
        if self.shape is not None and (not self.shape or min(self.shape) < 1):
            raise ValueError(f"shape={list(self.shape)}: sizes must be at least 1, as [3,224,224]")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes={self.num_classes}: must be at least 1")

    def run(self, console: Console) -> bool:
        """Print operators, exports, sizes and advice; returns whether the network runs on integers.

        Raises:
            PipelineError: the model cannot be built, or the backend cannot run here.
        """
        check_backend(self.backend)
        if (program := program_of(self.model)) is not None:
            found = inspect_program(program, self.backend)
            _show(found, self.backend, console)
            return not found.refused
        shape, classes = self._sample()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = self.model.build(shape, self.task.outputs(classes))
        found = inspect_network(
            module,
            shape,
            quantizer=self.quantizer,
            granularity=self.granularity,
            requantize=self.requantize,
            backend=self.backend,
            dtype=torch.int64 if self.tokens or self._reads_tokens() else torch.float32,
            output=output_of(self.model),
        )
        _show(found, self.backend, console)
        return not found.refused

    def _reads_tokens(self) -> bool:
        return self.shape is None and self.data is not None and input_dtype(self.data) == torch.int64

    def _sample(self) -> tuple[tuple[int, ...], int]:
        if self.shape is not None:
            return self.shape, 1000 if self.num_classes is None else self.num_classes
        if self.data is None:
            raise PipelineError("check.shape: give the shape of a sample, check.shape=[3,224,224], or data=…")
        return self.data.shape, self.data.num_classes if self.num_classes is None else self.num_classes


def _show(found: Preflight, backend: Backend | None, console: Console) -> None:
    if found.operators:
        total = max(1, sum(one.operations for one in found.operators))
        rows = [
            (
                one.name,
                one.op,
                PLACES[one.place],
                f"{one.operations:,}",
                percent(one.operations / total),
            )
            for one in found.operators
        ]
        console.table("operators", ("value", "operator", "runs on", "operations", "share"), rows)
    summary = []
    if found.operators and not found.refused:
        summary += [
            ("operations on integers", percent(found.share("engine", "reference"))),
            ("by the engine", percent(found.share("engine"))),
            ("in float islands", percent(found.share("float island"))),
        ]
    names = {"model/parameters": "parameters", "model/float_bytes": "bytes, float"}
    names |= {"model/integer_bytes": "bytes, integer"}
    summary += [(name, count(found.figures[key])) for key, name in names.items() if key in found.figures]
    if found.milliseconds is not None and backend is not None:
        summary.append((f"one sample on {backend.name}, ms, measured on noise", f"{found.milliseconds:.2f}"))
    summary += [(f"export {name}", "no" if why else "yes") for name, why in found.exports.items()]
    console.table("network", ("", ""), summary)
    for note in (*found.notes, *found.refused_exports()):
        console.say(f"note: {note}")
    advice = found.advice()
    verdict = "the network cannot run on integers as it is" if found.refused else "the network runs"
    console.say(f"{verdict}; {'to change, first things first:' if advice else 'nothing to change'}")
    for number, line in enumerate(advice, start=1):
        console.say(f"{number}. {line}")
