"""The form of an operator, which its kernel's module declares beside the kernel: see `Signature`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.program import Op, Program, Value

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What an operator takes and gives.

    Args:
        inputs: least and most number of inputs; None for no limit.
        attrs: the attributes it must have, beside those that follow from the other fields.
        ratios: how many ratios of scales it holds: ``one``, one an ``input``, one (or one for all) an
            output ``channel``; one an output channel and ``group`` of input channels; ``real`` where it
            computes in float, from the scales themselves; ``own`` where its tensors or attributes
            hold the scales in a form of its own; ``none`` where it does not requantize and the output keeps
            scale and zero point of the input.
        clamps: whether it has ``act_min, act_max``, where it requantizes.
        layer: whether it has weight and bias, and an optional second input, the residual.
        looks_up: whether it takes wide values of any kind, numbers of tokens too, as what moves does.
        stream: whether it takes and gives a residual stream of more than 8 bits (`Value.wide`): as inputs,
            as a layer's residual, as its output.
        view: whether its kernel's result may be a view of its input, or of a tensor of its own.
        shape: the output's shape of one sample, from the operator and its inputs' shapes. Raises
            ValueError, without the operator's name, where they do not fit.
        bound: the largest magnitude that an int32 sum of levels takes, from the operator and its program;
            None where it forms none, and for layers, whose bounds follow from their weights.
        check: what else must hold, from the operator, its inputs and its output; raises ValueError likewise.
    """

    inputs: tuple[int, int | None] = (1, 1)
    attrs: tuple[str, ...] = ()
    ratios: str = "one"
    clamps: bool = True
    layer: bool = False
    looks_up: bool = False
    stream: bool = False
    view: bool = False
    shape: Callable[[Op, Sequence[Shape]], Shape]
    bound: Callable[[Op, Program], int] | None = None
    check: Callable[[Op, Sequence[Value], Value], None] | None = None

    @property
    def accumulates(self) -> bool:
        """Whether it accumulates products of levels with an integer weight."""
        return self.layer and self.ratios != "real"

    @property
    def bounded(self) -> bool:
        """Whether it clamps to ``[act_min, act_max]``."""
        return self.clamps and self.ratios != "none"

    def attr_names(self, op: Op) -> tuple[str, ...]:
        """All attributes that `op` must have."""
        names = (*self.attrs, "act_min", "act_max") if self.bounded else self.attrs
        sums = self.ratios == "group" or self.rescales_residual(op)
        return (*names, "headroom") if sums else names

    def has_residual(self, op: Op) -> bool:
        """Whether `op` adds a second input before its clamp."""
        return self.layer and len(op.inputs) == 2

    def rescales_residual(self, op: Op) -> bool:
        """Whether `op` brings a residual to the steps of its sum by a ratio."""
        return self.has_residual(op) and self.ratios != "real"


def same_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The shape of an output that is like all inputs."""
    if len(set(shapes)) != 1:
        raise ValueError(f"inputs of shapes {', '.join(map(str, shapes))}: must be equal")
    return shapes[0]


def broadcast_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """The shape to which all inputs broadcast: they have as many dimensions, of equal size or 1."""
    sizes = list(zip(*shapes, strict=False))
    apart = any(len({size for size in axis if size != 1}) > 1 for axis in sizes)
    if apart or len({len(shape) for shape in shapes}) > 1:
        names = " and ".join(map(str, shapes))
        raise ValueError(f"inputs of shapes {names}: dimensions must be equal or 1, and as many")
    return tuple(next((size for size in axis if size != 1), 1) for axis in sizes)


def tensor_of(op: Op, name: str, dtypes: Any, *shapes: tuple[int, ...]) -> NDArray[Any]:
    """A tensor of `op`, of (one of) those dtypes and one of `shapes` (any where none is given)."""
    if name not in op.tensors:
        raise ValueError(f"tensor '{name}' is missing; has {', '.join(sorted(op.tensors)) or 'none'}")
    tensor = op.tensors[name]
    allowed = [np.dtype(dtype) for dtype in (dtypes if isinstance(dtypes, tuple) else (dtypes,))]
    if tensor.dtype not in allowed or (shapes and tensor.shape not in shapes):
        wanted = " or ".join(dict.fromkeys(map(str, shapes))) if shapes else "of any shape"
        types = " or ".join(map(str, allowed))
        raise ValueError(f"tensor '{name}' is {tensor.dtype} {tensor.shape}: must be {types} {wanted}")
    return tensor
