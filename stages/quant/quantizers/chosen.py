"""What a run's stages have chosen to quantize with, for what one must know of the others before any runs."""

from __future__ import annotations

from collections.abc import Iterable

from stages.quant.granularity.base import Granularity
from stages.quant.quantizers.base import WeightsAndActivations


def chosen_quantizer(stages: Iterable[object]) -> WeightsAndActivations | None:
    """The quantizer that the first of `stages` to have one has; None where none does."""
    found = (getattr(stage, "quantizer", None) for stage in stages)
    return next((own for own in found if isinstance(own, WeightsAndActivations)), None)


def chosen_granularity(stages: Iterable[object]) -> Granularity | None:
    """The granularity, likewise."""
    found = (getattr(stage, "granularity", None) for stage in stages)
    return next((own for own in found if isinstance(own, Granularity)), None)
