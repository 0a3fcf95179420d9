"""Stage *evaluate*: simulation and integers on the samples of the float baseline: accuracy, speed, parity."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import Baseline, IntegerProgram, LayerParity, Metrics, QuantizedModel
from stages.backends.base import Backend, load_backend, predict
from stages.backends.reference import Reference
from stages.data.base import Data, Split
from stages.data.batches import batches, subset
from stages.graph.simulate import Simulation
from stages.measuring.parity import Parity, sqnr_db
from stages.measuring.rounding import Roundings

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Run the baseline's samples through the two quantized forms of the network.

    Args:
        data: the data set whose test split the baseline took its samples from.
        backend: executor of the integer program.
        batch_size: samples at a time.
        parity_samples: so many of them, drawn by the run's seed, are also compared layer by layer, and
            with the reference, and run in each requantization mode.
    """

    name: ClassVar[str] = "evaluate"
    consumes: ClassVar[tuple[type, ...]] = (Baseline, QuantizedModel, IntegerProgram)
    produces: ClassVar[type] = Metrics
    cacheable: ClassVar[bool] = True

    data: Data
    backend: Backend
    batch_size: int = 256
    parity_samples: int = 256

    def check(self) -> None:
        """Raise where the data is missing."""
        self.data.check()

    def run(self, ctx: RunContext, inputs: Inputs) -> Metrics:
        """Measure; see DESIGN's list of metric names."""
        model: QuantizedModel = inputs[QuantizedModel]
        integers: IntegerProgram = inputs[IntegerProgram]
        program = integers.program
        executable = self.backend.compile(program)
        simulation = Simulation(program)
        baseline: Baseline = inputs[Baseline]
        forms: dict[str, Callable[[Tensor], Logits]] = {
            "simulated": lambda x: simulation(x).numpy(),
            "integer": lambda x: predict(executable, program, x.numpy()),
        }
        split = self.data.test()
        logits, seconds = self._logits(ctx, split, baseline.sample_ids, forms)
        logits["float"] = baseline.logits
        predictions = {name: values.argmax(axis=1).astype(np.int64) for name, values in logits.items()}
        labels = baseline.labels

        values = {
            f"{name}/top1": float((predicted == labels).mean()) for name, predicted in predictions.items()
        }
        values |= {f"{name}/images_per_second": len(labels) / spent for name, spent in seconds.items()}
        values["integer/agreement"] = float((predictions["integer"] == predictions["simulated"]).mean())
        values["integer/sqnr_db"] = _sqnr(logits["float"], logits["integer"])
        values |= {**baseline.values, **integers.metrics()}
        values["model/compression"] = values["model/float_bytes"] / values["model/integer_bytes"]

        exact = load_backend(executable.name).exact  # of what runs: a backend may have fallen back
        reference = None if executable.name == "reference" else Reference().compile(program)
        parity = Parity(model.quantized, program, executable, reference)
        roundings = Roundings(program, self.backend)
        self._compare(ctx, split, baseline.sample_ids, parity, roundings)
        layers = parity.layers()
        costs = roundings.costs(exact)
        values |= _parity_values(parity, layers)
        for cost in costs:
            values |= {
                f"rounding/{cost.mode}/equal_share": cost.equal_share,
                f"rounding/{cost.mode}/top1": cost.top1,
            }
        notes = tuple(executable.notes)
        if program.requantize not in exact:
            known = " and ".join(sorted(exact)) or "no requantize mode"
            notes += (
                f"backend {executable.name} computes {known} exactly; "
                f"the program's {program.requantize} may differ by one level an operator",
            )
        if grouped := [op.output for op in program.ops if op.op.startswith("group_")]:
            notes += (f"scales of groups have reference kernels only: {', '.join(grouped)}",)
        if islands := [op.output for op in program.ops if op.op.startswith("float_")]:
            notes += (f"computed in float, between integers: {', '.join(islands)}",)
        return Metrics(
            values=values,
            layers=layers,
            roundings=costs,
            predictions={"labels": labels, **predictions},
            notes=notes,
        )

    def _logits(
        self, ctx: RunContext, split: Split, ids: Ids, forms: dict[str, Callable[[Tensor], Logits]]
    ) -> tuple[dict[str, Logits], dict[str, float]]:
        """Logits (N, classes) and seconds of each form; the forms take turns batch by batch."""
        parts: dict[str, list[Logits]] = {name: [] for name in forms}
        seconds = dict.fromkeys(forms, 0.0)
        with torch.inference_mode(), ctx.console.progress("evaluating", len(ids)) as advance:
            for x, _ in batches(split, self.batch_size, self.data, order=ids):
                for name, form in forms.items():
                    if not parts[name]:
                        form(x)  # the first call prepares kernels for this batch size
                    start = time.perf_counter()
                    parts[name].append(form(x))
                    seconds[name] += time.perf_counter() - start
                advance(len(x))
        return {name: np.concatenate(part) for name, part in parts.items()}, seconds

    def _compare(self, ctx: RunContext, split: Split, ids: Ids, parity: Parity, roundings: Roundings) -> None:
        ids = ids[subset(ids, self.parity_samples, ctx.seed, "parity")]
        with ctx.console.progress("comparing layers", len(ids)) as advance:
            for x, labels in batches(split, min(self.batch_size, 64), self.data, order=ids):
                chosen = parity.update(x)
                roundings.update(x.numpy(), chosen, labels.numpy())
                advance(len(x))


def _sqnr(reference: Logits, actual: Logits) -> float:
    signal = float(np.square(reference, dtype=np.float64).sum())
    return sqnr_db(signal, float(np.square(actual - reference, dtype=np.float64).sum()))


def _parity_values(parity: Parity, layers: tuple[LayerParity, ...]) -> dict[str, float]:
    """The layers' table in a few numbers; the shares are those of the worst layer and of all elements."""
    simulated = [layer.simulated_minus_integer for layer in layers]
    backend = [layer.reference_minus_backend for layer in layers]
    everything: dict[int, int] = {}
    for histogram in backend:
        for difference, count in histogram.items():
            everything[difference] = everything.get(difference, 0) + count
    return {
        "parity/samples": float(parity.samples),
        "parity/max_off_by": float(max(map(LayerParity.max_off_by, simulated), default=0)),
        "parity/worst_equal_share": min(map(LayerParity.equal_share, simulated), default=1.0),
        "parity/backend_max_off_by": float(max(map(LayerParity.max_off_by, backend), default=0)),
        "parity/backend_equal_share": LayerParity.equal_share(everything),
        "parity/backend_within_1": LayerParity.equal_share(everything, within=1),
        "parity/backend_same_top1": parity.same_top1 / parity.samples if parity.samples else 1.0,
    }
