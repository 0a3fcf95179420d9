"""The form of an operator in torch: see `Operator`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from stages.graph.ir import Node
from stages.integer.program import Op, Program, Value

if TYPE_CHECKING:
    from stages.graph.quantized import QuantizedGraph

Kind = Literal["input", "layer", "computes", "moves", "normalizes"]

FloatFunction = Callable[..., Tensor]
"""``(attrs, params, *operands) -> value``: a node's attributes, its parameters by role, and the float32
values (N, *shape) that it reads, to its value before any clamp."""

Lowering = Callable[["QuantizedGraph", Node, Mapping[str, Value]], Op]
"""A node to the program's operator, over the program's values by name. ValueError, without the node's name,
where no integers express it."""

LevelFunction = Callable[..., Tensor]
"""Centred levels ``q − zero_point`` of the operands to those of the value: whole numbers in float32."""


@dataclass(frozen=True, kw_only=True)
class LevelSteps:
    """A level function in two steps; in a program with ``requantize=float`` the first is differentiable.

    Args:
        terms: centred levels of the operands to what is left to round: reals in steps of the output.
        finish: the last rounding and the clamp; overwrites its operand.
    """

    terms: Callable[..., Tensor]
    finish: Callable[[Tensor], Tensor]

    def __call__(self, *operands: Tensor) -> Tensor:
        """Both."""
        return self.finish(self.terms(*operands))


PrepareLevels = Callable[[Op, Program], LevelSteps]


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What an operator is.

    Args:
        name: as nodes name it.
        kind: ``layer``: has a weight, reads a value and perhaps a residual, which it adds before its clamp;
            ``computes``: gives new levels, and can clamp them for nothing; ``moves``: selects or moves
            values, so that its value has the input's scale and zero point; ``normalizes``: is folded away
            before anything is quantized; ``input``: the network's.
        attributes: the node's attributes and parameters, for readers.
        value: the float function.
        lower: to the program; None for what no program holds.
        levels: by the program's name for what `lower` gives: torch's way to its integers, exact, and faster
            than the reference kernel itself, which stands in where there is none (`stages.graph.simulate`).
            What moves needs none: centred levels move as real values do.
        stream: whether a residual stream of more than 8 bits may pass: as its value, and as what it reads, of
            a layer the residual alone.
        homogeneous: whether a positive factor on a channel of its input is one on that channel of its value.
    """

    name: str
    kind: Kind
    attributes: str
    value: FloatFunction
    lower: Lowering | None = None
    levels: Mapping[str, PrepareLevels] = field(default_factory=dict)
    stream: bool = False
    homogeneous: bool = False

    @property
    def own_levels(self) -> bool:
        """Whether its value has quantization parameters of its own."""
        return self.kind in ("input", "layer", "computes")


Attributes = Mapping[str, Any]
Parameters = Mapping[str, Tensor]
