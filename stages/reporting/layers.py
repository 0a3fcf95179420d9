"""The table of layers: what was chosen at each point, what it clips, how far integers lie off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stages.artifacts import LayerParity, Metrics, Observations, QuantizedModel
from stages.graph.points import quantization_points
from stages.quant.qparams import QParams
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
        sqnr_db, simulated, backend: of `LayerParity`; None where it was not measured.
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


def layer_table(observations: Observations, model: QuantizedModel, metrics: Metrics) -> tuple[Layer, ...]:
    """All quantization points of the network, in execution order."""
    quantized = model.quantized
    parity = {layer.name: layer for layer in metrics.layers}
    rows = []
    for name in quantization_points(quantized.graph):
        if name not in quantized.activations:  # it stays float
            continue
        statistics = observations.statistics.get(name)
        row = _layer(
            name,
            quantized.graph[name].op,
            quantized.activations[name],
            None if statistics is None else histogram_of(statistics),
            parity.get(name),
        )
        rows.append(row)
    return tuple(rows)


def _layer(
    name: str,
    op: str,
    qparams: QParams,
    observed: Histogram | None,
    parity: LayerParity | None,
) -> Layer:
    scale, zero_point = float(qparams.scale), int(qparams.zero_point)
    minimum = scale * (qparams.quant_min - zero_point)
    maximum = scale * (qparams.quant_max - zero_point)
    return Layer(
        name=name,
        op=op,
        minimum=minimum,
        maximum=maximum,
        scale=scale,
        zero_point=zero_point,
        quant_min=qparams.quant_min,
        quant_max=qparams.quant_max,
        observed=observed,
        clipped=None
        if observed is None
        else observed.share_outside(minimum - scale / 2, maximum + scale / 2),
        accumulator_bits=None
        if parity is None or parity.accumulator is None
        else parity.accumulator.bit_length() + 1,
        sqnr_db=None if parity is None else parity.sqnr_db,
        simulated=None if parity is None else _off_by(parity.simulated_minus_integer),
        backend=None if parity is None else _off_by(parity.reference_minus_backend),
    )


def _off_by(differences: Mapping[int, int]) -> OffBy:
    equal, within_1, within_2 = (LayerParity.equal_share(differences, within=n) for n in range(3))
    return OffBy(
        largest=LayerParity.max_off_by(differences),
        shares=(equal, within_1 - equal, within_2 - within_1, 1.0 - within_2),
    )
