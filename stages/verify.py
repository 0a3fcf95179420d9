"""Stage *verify*: parity as a contract. It comes last, so that a run that breaks it is recorded whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import ConfigError, ParityError
from pipeline.stage import Inputs
from stages.artifacts import LayerParity, Metrics


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Fail the run where integers and simulation lie further apart than agreed.

    Args:
        min_agreement: least share of test samples with the same top-1 in integers and simulation.
        max_off_by: largest difference of levels at any layer; None does not limit it.
    """

    name: ClassVar[str] = "verify"
    consumes: ClassVar[tuple[type, ...]] = (Metrics,)
    produces: ClassVar[None] = None
    cacheable: ClassVar[bool] = False

    min_agreement: float = 0.99
    max_off_by: int | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_agreement <= 1.0:
            raise ConfigError(f"min_agreement={self.min_agreement}: must be a share, 0..1")
        if self.max_off_by is not None and self.max_off_by < 0:
            raise ConfigError(f"max_off_by={self.max_off_by}: must be 0 or more, or null for no limit")

    def check(self) -> None:
        """Nothing to check before the figures are there."""

    def run(self, ctx: RunContext, inputs: Inputs) -> None:
        """Raise `ParityError` naming the worst layer."""
        metrics: Metrics = inputs[Metrics]
        agreement = metrics.values["integer/agreement"]
        worst = max(metrics.layers, key=_distance, default=None)
        where = "" if worst is None else f" Worst layer: '{worst.name}' ({worst.op}), {_describe(worst)}."
        if agreement < self.min_agreement:
            raise ParityError(
                f"integer and simulated top-1 agree on {agreement:.4f} of the test samples, "
                f"below evaluate.min_agreement={self.min_agreement}.{where}"
            )
        off_by = 0 if worst is None else worst.max_off_by(worst.simulated_minus_integer)
        if self.max_off_by is not None and off_by > self.max_off_by:
            raise ParityError(
                f"simulation and integers differ by up to {off_by} levels, "
                f"above evaluate.max_off_by={self.max_off_by}.{where}"
            )


def _distance(layer: LayerParity) -> tuple[int, float]:
    histogram = layer.simulated_minus_integer
    return layer.max_off_by(histogram), 1.0 - layer.equal_share(histogram)


def _describe(layer: LayerParity) -> str:
    histogram = layer.simulated_minus_integer
    share = layer.equal_share(histogram)
    return f"off by up to {layer.max_off_by(histogram)}, equal on {share:.4%} of its values"
