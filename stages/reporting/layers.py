"""The table of layers: what was chosen at each point, what it clips, how far integers lie off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stages.artifacts import (
    IntegerProgram,
    LayerParity,
    Observations,
    Parity,
    QuantizedModel,
    RuntimeResult,
)
from stages.graph.points import quantization_points
from stages.integer.program import Value
from stages.reporting.histogram import Histogram, histogram_of


@dataclass(frozen=True, kw_only=True)
class OffBy:
    """Differences of levels at one point: the largest, and the shares of elements off by 0, 1, 2, and ≥ 3."""

    largest: int
    shares: tuple[float, float, float, float]

    @property
    def equal(self) -> float:
        """The share of elements that do not differ."""
        return self.shares[0]

    @property
    def within_1(self) -> float:
        """The share of elements that differ by at most one level."""
        return self.shares[0] + self.shares[1]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One quantization point.

    Args:
        minimum, maximum: the real values of the smallest and largest level: the chosen range.
        observed: what the calibration samples did there; None where they were not observed.
        clipped: the share of observations beyond the range by more than half a step.
        accumulator_bits: the fewest bits of a signed accumulator that no input overflows; None where nothing
            is accumulated in integers.
        sqnr_db, simulated, backend: of `LayerParity`; None where it was not measured. The ratio is infinite
            where there is no noise.
        runtimes: of each runtime that shows its layers, in their order; None where it has not this one.
    """

    name: str
    op: str
    minimum: float
    maximum: float
    scale: float
    zero_point: int
    quant_min: int
    quant_max: int
    observed: Histogram | None
    clipped: float | None
    accumulator_bits: int | None
    sqnr_db: float | None
    simulated: OffBy | None
    backend: OffBy | None
    runtimes: tuple[OffBy | None, ...] = ()


def layer_table(
    observations: Observations | None,
    model: QuantizedModel | None,
    program: IntegerProgram | None,
    parity: Parity | None,
    runtimes: Sequence[RuntimeResult] = (),
) -> tuple[Layer, ...]:
    """All values of the network that are rounded, in execution order; of a program alone, all its values."""
    compared = {} if parity is None else {layer.name: layer for layer in parity.layers}
    statistics = {} if observations is None else observations.statistics
    elsewhere = [{layer.name: layer.differences for layer in one.layers} for one in runtimes]
    rows = []
    for op, value in _values(model, program):
        seen = statistics.get(value.name)
        row = _layer(op, value, None if seen is None else histogram_of(seen), compared)
        there = (one.get(value.name) for one in elsewhere)
        rows.append(replace(row, runtimes=tuple(None if one is None else off_by(one) for one in there)))
    return tuple(rows)


def _values(model: QuantizedModel | None, program: IntegerProgram | None) -> list[tuple[str, Value]]:
    """Each value with its operator."""
    if model is None:
        if program is None:
            return []
        ops = {op.output: op.op for op in program.program.ops}
        return [(ops.get(name, "input"), value) for name, value in program.program.values.items()]
    quantized = model.quantized
    values = []
    for name in quantization_points(quantized.graph):
        if name in quantized.activations:  # else it stays float
            node, qparams = quantized.graph[name], quantized.activations[name]
            value = Value(
                name=name,
                shape=node.shape,
                scale=float(qparams.scale),
                zero_point=int(qparams.zero_point),
                quant_min=qparams.quant_min,
                quant_max=qparams.quant_max,
            )
            values.append((node.op, value))
    return values


def _layer(op: str, value: Value, observed: Histogram | None, compared: Mapping[str, LayerParity]) -> Layer:
    parity = compared.get(value.name)
    scale = value.scale
    minimum = scale * (value.quant_min - value.zero_point)
    maximum = scale * (value.quant_max - value.zero_point)
    return Layer(
        name=value.name,
        op=op,
        minimum=minimum,
        maximum=maximum,
        scale=scale,
        zero_point=value.zero_point,
        quant_min=value.quant_min,
        quant_max=value.quant_max,
        observed=observed,
        clipped=None
        if observed is None
        else observed.share_outside(minimum - scale / 2, maximum + scale / 2),
        accumulator_bits=None
        if parity is None or parity.accumulator is None
        else parity.accumulator.bit_length() + 1,
        sqnr_db=None if parity is None else math.inf if parity.noiseless else parity.sqnr_db,
        simulated=None if parity is None else off_by(parity.simulated_minus_integer),
        backend=None if parity is None else off_by(parity.reference_minus_backend),
    )


def off_by(differences: Mapping[int, int]) -> OffBy:
    """Differences of levels and how often each occurs, as the report shows them."""
    equal, within_1, within_2 = (LayerParity.equal_share(differences, within=n) for n in range(3))
    return OffBy(
        largest=LayerParity.max_off_by(differences),
        shares=(equal, within_1 - equal, within_2 - within_1, 1.0 - within_2),
    )
