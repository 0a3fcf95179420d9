"""The form of an operator, which its kernel's module declares beside the kernel: see `Signature`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.integer.program import Op

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What an operator takes and gives.

    Args:
        inputs: least and most number of inputs; None for no limit.
        attrs: the attributes it must have, beside those that follow from the other fields.
        ratios: how many ratios of scales it holds: ``one``, one an ``input``, one (or one for all) an
            output ``channel``; one an output channel and ``group`` of input channels; ``real`` where it
            computes in float, from the scales themselves; ``none`` where it does not requantize and the
            output keeps scale and zero point of the input.
        layer: whether it has weight and bias, and an optional second input, the residual.
        shape: the output's shape of one sample, from the operator and its inputs' shapes. Raises
            ValueError, without the operator's name, where they do not fit.
    """

    inputs: tuple[int, int | None] = (1, 1)
    attrs: tuple[str, ...] = ()
    ratios: str = "one"
    layer: bool = False
    shape: Callable[[Op, Sequence[Shape]], Shape]

    def attr_names(self, op: Op) -> tuple[str, ...]:
        """All attributes that `op` must have."""
        names = self.attrs if self.ratios == "none" else (*self.attrs, "act_min", "act_max")
        sums = self.ratios == "group" or self.rescales_residual(op)
        return (*names, "headroom") if sums else names

    def has_residual(self, op: Op) -> bool:
        """Whether `op` adds a second input before its clamp."""
        return self.layer and len(op.inputs) == 2

    def rescales_residual(self, op: Op) -> bool:
        """Whether `op` brings a residual to the steps of its sum by a ratio."""
        return self.has_residual(op) and self.ratios != "real"


def same_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """Of operators whose inputs and output have one shape."""
    if len(set(shapes)) != 1:
        raise ValueError(f"inputs of shapes {', '.join(map(str, shapes))}: must be equal")
    return shapes[0]
