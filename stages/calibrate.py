"""Stage *calibrate*: from statistics to scales and zero points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import Observations, QuantizedModel
from stages.graph.calibrate import abnormal_points, calibrate
from stages.quant.calibrators.base import Calibration
from stages.quant.granularity.base import Granularity
from stages.quant.quantizers.base import WeightsAndActivations


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Reduce each point's statistics to a range, and each range to quantization parameters.

    Args:
        quantizer: the schemes of weights and activations.
        calibration: the calibrators of activations and weights.
        granularity: which weights share a scale; activations are per tensor.
    """

    name: ClassVar[str] = "calibrate"
    consumes: ClassVar[tuple[type, ...]] = (Observations,)
    produces: ClassVar[type] = QuantizedModel
    cacheable: ClassVar[bool] = True
    depends_on_threads: ClassVar[bool] = True

    quantizer: WeightsAndActivations
    calibration: Calibration
    granularity: Granularity

    def check(self) -> None:
        """Nothing can be known to fail before the statistics are there."""

    def run(self, ctx: RunContext, inputs: Inputs) -> QuantizedModel:
        """Choose all parameters; warn of abnormal samples."""
        observations: Observations = inputs[Observations]
        if (text := _abnormal(observations)) and self.quantizer.activation is not None:
            ctx.console.warn(text)
        return QuantizedModel(
            quantized=calibrate(
                observations.graph,
                observations.statistics,
                self.quantizer,
                self.calibration,
                self.granularity,
            )
        )


def _abnormal(observations: Observations) -> str | None:
    """What to say of abnormal observations: where, how large, which samples, what becomes of them."""
    found = abnormal_points(observations.statistics)
    if not found:
        return None
    name, worst = max(found.items(), key=lambda item: item[1].largest / max(item[1].limit, 1e-30))
    known = observations.sample_ids
    rows = {row for one in found.values() if one.of == len(known) for row in one.rows}
    ids = [str(known[row]) for row in sorted(rows)]
    samples = f", in {len(ids)} of {len(known)} samples (training rows {_few(ids)})" if ids else ""
    return (
        f"calibrate: abnormal values at {_few(list(found))}{samples}: '{name}' reaches {worst.largest:.4g}, "
        f"and {worst.limit:.4g} without them. calibration=minmax covers them, so that all others share few "
        "levels; every other calibrator leaves them out and clips them. Remedy: look at these samples, and "
        "take them out of the training split if they are damaged; if not, compare with calibration=minmax"
    )


def _few(items: Sequence[str], most: int = 5) -> str:
    """The first items, and how many more there are."""
    shown = ", ".join(items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
