"""ATen calls that no integers express, as nodes: islands of float between integers.

A call is kept as it was traced, its arguments as tuples (tag, …) that JSON can hold:

=====================  =========================================================================
("value", i, layout)   input i of the node, in the layout ``(dim, outer, inner)`` and dtype of the trace
("param", role, dim)   a parameter of the node, repeated for each sample along a dimension or None
("samples", b, a)      the numbers of the samples, after b dimensions of 1 and before a
("batch", k)           k times the number of samples: ``N·windows`` of a reshape
("list", items)        a list of arguments
("dtype", name)        a dtype of torch
("is", value)          a number, a string, a truth value or None
=====================  =========================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from stages.graph.aten.batch import Placement
from stages.graph.aten.call import Param, Ref, SampleNumbers
from stages.graph.aten.refusal import RefusalError
from stages.graph.ir import Node
from stages.graph.operators.aten import aten_function


def island(
    function: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    part: int | None,
    layout: Placement,
    dtype: torch.dtype,
    why: str,
) -> Node:
    """One call as a node, without name and shape.

    Args:
        function: the ATen operator with its overload: ``cumsum.default``.
        args: its arguments, values as `Ref` and constants as `Param`.
        kwargs: likewise.
        part: which of several results it is; None where there is one.
        layout: of the result.
        dtype: of the result; complex numbers have to stay within an island.
        why: the reason why it has no integer form.

    Raises:
        RefusalError: the function changes its arguments, draws numbers, or takes what no graph can hold.
    """
    aten_function(function)
    inputs: list[str] = []
    roles: dict[str, str] = {}

    def encode(argument: Any) -> tuple[Any, ...]:
        if isinstance(argument, Ref):
            inputs.append(argument.name)
            own = argument.layout
            place = (own.dim, own.outer, own.inner)
            return ("value", len(inputs) - 1, place, _name(argument.dtype))
        if isinstance(argument, Param):
            role = f"constant{len(roles)}"
            roles[role] = argument.key
            return "param", role, argument.batch_dim
        if isinstance(argument, SampleNumbers):
            return "samples", argument.leading, argument.following
        if isinstance(argument, torch.dtype):
            return "dtype", _name(argument)
        if isinstance(argument, list | tuple):
            return "list", tuple(encode(item) for item in argument)
        if isinstance(argument, bool | float | str | None):
            return "is", argument
        if isinstance(argument, int):
            count, rest = divmod(argument, layout.batch)
            return ("is", argument) if rest or argument == 0 else ("batch", count)
        if isinstance(argument, torch.device | torch.layout | torch.memory_format):
            return "is", None
        raise RefusalError(f"takes {argument!r}, which no graph can hold")

    call = (
        function,
        tuple(encode(argument) for argument in args),
        tuple((name, encode(argument)) for name, argument in kwargs.items()),
        part,
        (layout.dim, layout.outer, layout.inner),
    )
    attrs = {"calls": (call,), "why": why, "complex": dtype.is_complex}
    return Node(name="", op="aten", inputs=tuple(inputs), attrs=attrs, params=roles)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
