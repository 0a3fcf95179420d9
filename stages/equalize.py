"""Stage *equalize*: even ranges of channels between neighbouring layers; the same float function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.stage import Inputs
from stages.artifacts import FloatModel
from stages.corrections.equalize import equalizable, equalize
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse


@dataclass(frozen=True, kw_only=True)
class Equalize:
    """Even out the ranges of channels between neighbouring layers; the network comes out folded and fused.

    Args:
        iterations: the most sweeps over all pairs of layers.
        tolerance: stop where no factor of a sweep differs from 1 by more.
        replace_relu6: also between layers with a bounded activation, by dropping the bound. This changes
            the float function.
    """

    name: ClassVar[str] = "equalize"
    consumes: ClassVar[tuple[type, ...]] = (FloatModel,)
    produces: ClassVar[type] = FloatModel
    cacheable: ClassVar[bool] = True

    iterations: int = 20
    tolerance: float = 1e-3
    replace_relu6: bool = False

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations={self.iterations}: must be at least 1")
        if self.tolerance < 0.0:
            raise ValueError(f"tolerance={self.tolerance}: must not be negative")

    def check(self) -> None:
        """Nothing to check: a network without pairs of layers is left as it is."""

    def run(self, ctx: RunContext, inputs: Inputs) -> FloatModel:
        """Fold, fuse, equalize."""
        model: FloatModel = inputs[FloatModel]
        graph = fuse(fold_batch_norm(model.graph))
        if not self.replace_relu6 and not equalizable(graph):
            ctx.console.warn(
                "equalize: no layer is read by one other layer alone, through ReLU; no change "
                "(correction.equalize.replace_relu6=true makes ReLU of ReLU6)"
            )
        return replace(
            model,
            graph=equalize(
                graph,
                iterations=self.iterations,
                tolerance=self.tolerance,
                replace_relu6=self.replace_relu6,
            ),
        )
