"""What would become of a network: every operator's place, before any data is read or anything is trained.

The network is captured, calibrated on two samples of noise and lowered. Which kernels run what does not
depend on the ranges, so that this is the same as in a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.artifacts import FloatModel, IntegerProgram
from stages.backends.base import Backend, predict
from stages.backends.native_kernels.segments import on_engine
from stages.exporters.exporter import exporters
from stages.graph.calibrate import calibrate
from stages.graph.capture import capture
from stages.graph.cost import operations, program_operations, traced_calls
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Graph, Node
from stages.graph.lower import lower
from stages.graph.points import quantization_points
from stages.graph.tokens import token_counts
from stages.integer.bounds import check_accumulators
from stages.integer.program import Op, Program, Requantize
from stages.measuring.timing import median_seconds
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.base import Granularity
from stages.quant.granularity.per_tensor import samples_as_rows
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.statistics import Statistics

Place = Literal["engine", "reference", "float island", "unknown"]
"""``engine``: integers, by a native kernel; ``reference``: integers, by the reference's kernel; ``unknown``:
no program could be made, so that what would run it was not asked."""

SAMPLES = 2
"""How many of noise to calibrate on."""

LITTLE = 0.01
"""A share of operations below which operators on the reference's kernels are told of in one line."""

SECONDS = 1.0
"""For timing, about."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One operator.

    Args:
        name: the value that it computes.
        op: the program's name of the operator; of an island, the function's.
        module: the path of the module that it was traced from.
        place: what runs it.
        operations: for one sample, see `stages.graph.cost`.
        why: why it stays float; empty else.
    """

    name: str
    op: str
    module: str
    place: Place
    operations: int
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What `inspect_network` found.

    Args:
        operators: in order of execution; empty where the network could not be captured.
        refused: why it cannot be run on integers, each with its remedy; empty where it can.
        exports: by exporter, why it cannot write the program; empty text where it can.
        figures: ``model/parameters``, ``model/float_bytes``, ``model/integer_bytes`` where they are known.
        milliseconds: of one sample on the backend, the median; None where nothing runs.
        notes: of the backend.
    """

    operators: tuple[Placed, ...]
    refused: tuple[str, ...]
    exports: Mapping[str, str]
    figures: Mapping[str, float]
    milliseconds: float | None
    notes: tuple[str, ...] = ()

    def share(self, *places: Place) -> float:
        """The share of all operations in places, 0..1; 0 where there are none."""
        total = sum(one.operations for one in self.operators)
        return sum(one.operations for one in self.operators if one.place in places) / max(1, total)

    def advice(self) -> list[str]:
        """What to change, first things first; empty where there is nothing."""
        found = list(self.refused)
        found += _advice(self.operators, "float island", "stays float: replace it, or accept it")
        found += _advice(
            self.operators, "reference", "by the reference's kernel, which is slower: compare backend=onednn"
        )
        return found

    def refused_exports(self) -> list[str]:
        """A line for each format that does not take the program as it is; not advice on the network."""
        return [f"export {name}: {why}" for name, why in self.exports.items() if why]


def inspect_network(
    module: nn.Module,
    shape: tuple[int, ...],
    *,
    quantizer: WeightsAndActivations,
    granularity: Granularity,
    requantize: Requantize,
    backend: Backend | None,
    dtype: torch.dtype = torch.float32,
    output: str | int | None = None,
) -> Preflight:
    """Follow the network to a program, and ask of each operator what runs it.

    Args:
        module: the network, with any weights.
        shape: of one sample.
        quantizer: the schemes of weights and activations.
        granularity: which weights share a scale.
        requantize: how accumulators become levels.
        backend: what is timed; None for nothing.
        dtype: of its input: float32, or int64 for tokens.
        output: which of several results, by key or position; None for the first.
    """
    count = float(sum(parameter.numel() for parameter in module.parameters()))
    figures = {"model/parameters": count, "model/float_bytes": 4 * count}
    try:
        captured = capture(module, shape, dtype=dtype, output=output)
        figures |= FloatModel(graph=captured).metrics()
        graph = fuse(fold_batch_norm(captured))
    except PipelineError as error:
        return Preflight(operators=(), refused=(str(error),), exports={}, figures=figures, milliseconds=None)
    try:
        graph, program = lowered(graph, noise(graph, SAMPLES), quantizer, granularity, requantize)
    except ValueError as error:  # PipelineError is one
        operators = tuple(placed(graph, None))
        return Preflight(
            operators=operators, refused=(str(error),), exports={}, figures=figures, milliseconds=None
        )
    figures |= {"model/integer_bytes": IntegerProgram(program=program).metrics()["model/integer_bytes"]}
    milliseconds, notes = (None, ()) if backend is None else _timed(program, backend)
    return Preflight(
        operators=tuple(placed(graph, program)),
        refused=(),
        exports=dict(_exports(program)),
        figures=figures,
        milliseconds=milliseconds,
        notes=notes,
    )


def inspect_program(program: Program, backend: Backend | None) -> Preflight:
    """Ask of a program, as a quantized file holds it, what runs each operator, and what exports it."""
    places, counts = _places(program), program_operations(program)
    milliseconds, notes = (None, ()) if backend is None else _timed(program, backend)
    return Preflight(
        operators=tuple(
            Placed(name=name, op=op, module="", place=place, operations=counts[name])
            for name, (op, place) in places.items()
        ),
        refused=(),
        exports=dict(_exports(program)),
        figures={"model/integer_bytes": IntegerProgram(program=program).metrics()["model/integer_bytes"]},
        milliseconds=milliseconds,
        notes=notes,
    )


def noise(graph: Graph, samples: int) -> Tensor:
    """Random input of a network, float32 (samples, *shape): standard normal, or tokens that it knows."""
    generator, shape = torch.Generator().manual_seed(0), (samples, *graph.input.shape)
    if (count := token_counts(graph).get(graph.input.name)) is not None:
        return torch.randint(0, count, shape, generator=generator).float()
    return torch.randn(shape, generator=generator)


def lowered(
    graph: Graph,
    x: Tensor,
    quantizer: WeightsAndActivations,
    granularity: Granularity,
    requantize: Requantize,
) -> tuple[Graph, Program]:
    """The program of a folded, fused network, calibrated by minimum and maximum on `x`; its graph before it.

    Raises:
        ValueError: observations without a range, scales that no multiplier expresses, or sums that overflow.
    """
    found = {name: Statistics(histogram=False) for name in quantization_points(graph)}

    def record(node: Node, value: Tensor) -> Tensor:
        if node.name in found:
            found[node.name].update(samples_as_rows(value))
        return value

    with torch.inference_mode():
        execute(graph, x, record)
    quantized = calibrate(graph, found, quantizer, Calibration(activation=MinMax()), granularity)
    program = lower(quantized, requantize)
    check_accumulators(program)
    return quantized.graph, program


def _places(program: Program) -> dict[str, tuple[str, Place]]:
    """By value, the operator's name and what runs it; the engine is asked as it is in a run."""
    engine = on_engine(program)
    return {op.output: (op.op, _place(op, engine)) for op in program.ops}


def _place(op: Op, engine: frozenset[str]) -> Place:
    if op.op == "island" or op.op.startswith("float_"):
        return "float island"
    return "engine" if op.output in engine else "reference"


def placed(graph: Graph, program: Program | None) -> Iterator[Placed]:
    """The operators of a network, each with what runs it in its program; None where there is no program."""
    counts, places = operations(graph), {} if program is None else _places(program)
    for node in graph.nodes:
        if node.op == "input":
            continue
        op, place = places.get(node.name, (node.op, "unknown"))
        function = "+".join(dict.fromkeys(traced_calls(node))) or node.op
        yield Placed(
            name=node.name,
            op=function if op in ("island", "aten") else op,
            module=node.module,
            place=place,
            operations=counts[node.name],
            why=str(node.attrs.get("why", "")) if place == "float island" else "",
        )


def _exports(program: Program) -> Iterator[tuple[str, str]]:
    """Each exporter, and why it cannot write the program; empty text where it can."""
    for exporter in exporters():
        try:
            yield exporter.name, "; ".join(exporter.refusals(program))
        except PipelineError as error:  # a package is missing
            yield exporter.name, str(error)


def _timed(program: Program, backend: Backend) -> tuple[float | None, tuple[str, ...]]:
    """Milliseconds of one sample, the median, and what the backend notes."""
    value = program.values[program.input]
    x = torch.randn(1, *value.shape, generator=torch.Generator().manual_seed(0)).numpy()
    if value.counts:
        x = (x > 0).astype(x.dtype)
    try:
        executable = backend.compile(program)
    except (ValueError, ImportError) as error:
        return None, (str(error),)
    seconds = median_seconds(lambda: predict(executable, program, x), seconds=SECONDS)
    return 1e3 * seconds, executable.notes


def _advice(operators: Sequence[Placed], place: Place, what: str) -> Iterator[str]:
    """A line for each kind of operator in a place, the greatest share first; little shares in one."""
    total = max(1, sum(one.operations for one in operators))
    shares: Counter[str] = Counter()
    for one in operators:
        if one.place == place:
            shares[one.op] += one.operations
    little = [op for op, share in shares.items() if share < LITTLE * total]
    for op, share in shares.most_common():
        if op in little and len(little) > 1 and place == "reference":
            continue
        there = [one for one in operators if one.op == op and one.place == place]
        names = ", ".join(one.name for one in there[:3]) + (", …" if len(there) > 3 else "")
        why = f" ({there[0].why})" if there[0].why else ""
        yield f"{op} {what}{why}; {share / total:.1%} of operations: {names}"
    if len(little) > 1 and place == "reference":
        share = sum(shares[op] for op in little)
        names = ", ".join(sorted(little))
        yield f"{names} {what}; little: {share / total:.1%} of operations in all"
