"""The verdict: does the run keep its contract of parity?

By default the contract follows from what ran. A backend that computes the program's rounding exactly has to
give the simulation's levels, every one of them; another one declares its tolerance (`Tolerance`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stages.artifacts import LayerParity, Metrics, Parity, Verdict
from stages.tasks.base import agreeing


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a run has to keep.

    Args:
        min_agreement: least share of test samples on which integers and simulation decide the same; None
            takes what the backend declares: 1 where it is exact.
        max_off_by: most levels that integers may differ at any layer from the simulation, or from the
            reference; None takes 0 where the backend is exact, and no limit where it is not.
    """

    min_agreement: float | None = None
    max_off_by: int | None = None

    def __post_init__(self) -> None:
        if self.min_agreement is not None and not 0.0 <= self.min_agreement <= 1.0:
            raise ValueError(
                f"min_agreement={self.min_agreement}: must be a share, 0..1, or null for the backend's"
            )
        if self.max_off_by is not None and self.max_off_by < 0:
            raise ValueError(f"max_off_by={self.max_off_by}: must be 0 or more, or null for the backend's")


def judge(metrics: Metrics, parity: Parity | None, contract: Contract) -> Verdict:
    """Hold what was measured against the contract. What was not measured is not demanded."""
    demands: list[str] = []
    breaches: list[str] = []
    for demand, breach in (*_agreement(metrics, parity, contract), *_off_by(metrics, parity, contract)):
        demands.append(demand)
        breaches += [] if breach is None else [breach]
    demanded = ", ".join(demands)
    if demanded and not metrics.tolerance.exact:
        demanded += f"; {metrics.tolerance.reason}, each operator by up to {metrics.tolerance.off_by}"
    return Verdict(demanded=demanded, broken=breaches[0] if breaches else None)


def _agreement(
    metrics: Metrics, parity: Parity | None, contract: Contract
) -> Iterator[tuple[str, str | None]]:
    tolerance, predictions = metrics.tolerance, metrics.predictions
    least = tolerance.min_agreement if contract.min_agreement is None else contract.min_agreement
    if least == 0.0 or not {"integer", "simulated"} <= set(predictions):
        return
    same = agreeing(predictions["integer"], predictions["simulated"])
    agree, samples = int(same.sum()), len(same)
    share = agree / samples
    declared = "" if contract.min_agreement is not None else f", what backend {metrics.backend} declares"
    breach = None
    if share < least:
        breach = (
            f"integers and simulation agree on {agree} of {samples} samples ({share:.4f}), below "
            f"evaluate.min_agreement={least:g}{declared}.{_where(parity)} "
            f"{_remedy(metrics)}evaluate.min_agreement={math.floor(share * 1e4) / 1e4:g} accepts it"
        )
    yield f"agreement of at least {least:.2%}", breach


def _off_by(metrics: Metrics, parity: Parity | None, contract: Contract) -> Iterator[tuple[str, str | None]]:
    most = contract.max_off_by
    if most is None and metrics.tolerance.exact:
        most = 0
    if most is None or parity is None or not parity.samples:
        return
    declared = "" if contract.max_off_by is not None else f", backend {metrics.backend} being exact"
    breach = None
    for pair, field in (
        ("simulation and integers", "simulated_minus_integer"),
        ("reference and backend", "reference_minus_backend"),
    ):
        worst = _worst(parity, field)
        if worst is None or breach is not None:
            continue
        layer, histogram = worst
        off_by = layer.max_off_by(histogram)
        if off_by > most:
            breach = (
                f"{pair} differ by up to {off_by} levels, above evaluate.max_off_by={most}{declared}."
                f"{_describe(layer, histogram)} {_remedy(metrics)}evaluate.max_off_by={off_by} accepts it"
            )
    yield "all levels equal" if most == 0 else f"no level off by more than {most}", breach


def _remedy(metrics: Metrics) -> str:
    if metrics.tolerance.exact:
        return "On an exact backend this is a fault of ours; "
    return "Remedy: backend=native is exact; "


def _where(parity: Parity | None) -> str:
    worst = None if parity is None else _worst(parity, "simulated_minus_integer")
    return "" if worst is None else _describe(*worst)


def _worst(parity: Parity, field: str) -> tuple[LayerParity, Mapping[int, int]] | None:
    """The layer with the largest difference, of those the one with the fewest equal levels."""
    counted = [(layer, getattr(layer, field)) for layer in parity.layers]
    return max(counted, key=lambda c: (c[0].max_off_by(c[1]), 1.0 - c[0].equal_share(c[1])), default=None)


def _describe(layer: LayerParity, histogram: Mapping[int, int]) -> str:
    return (
        f" Worst layer: '{layer.name}' ({layer.op}), off by up to {layer.max_off_by(histogram)}, "
        f"equal on {layer.equal_share(histogram):.4%} of its values."
    )
