"""A call of ATen as it was traced, in float: see `stages.graph.aten.islands` for its form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from stages.graph.aten.batch import as_traced, batch_first
from stages.graph.aten.refusal import RefusalError
from stages.graph.operators.operator import Attributes, Operator, Parameters

RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"})
"""Networks over time: their states would be floats in every step."""


_DROPS_IF_TOLD = frozenset({"scaled_dot_product_attention"})
"""Functions that draw numbers where they are told to drop values, which capture refuses."""


@cache
def aten_function(name: str) -> Callable[..., Any]:
    """An operator of ATen by ``name.overload``, as ``cumsum.default``.

    Only such as compute tensors from tensors, and nothing else, are given: a program may come from elsewhere.

    Raises:
        RefusalError: there is none of the name, or it changes arguments, draws numbers or reads no tensor.
    """
    base, _, overload = name.partition(".")
    if base in RECURRENT:
        raise RefusalError(
            "is recurrent: its state is a float in every step. Quantize the layers before and after it, or "
            "replace it by convolutions or attention"
        )
    packet = getattr(torch.ops.aten, base, None) if base.isidentifier() else None
    operator = None if packet is None else getattr(packet, overload or "default", None)
    if not isinstance(operator, torch._ops.OpOverload):
        raise RefusalError(f"'{name}' is no operator of ATen")
    schema = operator._schema
    tensors = {"Tensor", "List[Tensor]", "Optional[Tensor]", "List[Optional[Tensor]]"}
    if schema.is_mutable:
        raise RefusalError("changes a tensor in place; write the function that gives a new one")
    if torch.Tag.nondeterministic_seeded in operator.tags and base not in _DROPS_IF_TOLD:
        raise RefusalError("draws random numbers in evaluation")
    takes_none = not tensors.intersection(str(argument.type) for argument in schema.arguments)
    if takes_none or any(str(result.type) not in tensors for result in schema.returns):
        raise RefusalError("computes no tensor from tensors")
    return operator


def calls(attrs: Attributes, params: Parameters, *operands: Tensor) -> Tensor:
    """The result (N, *shape) of the last call, in the operands' float dtype."""
    values = list(operands)
    for call in attrs["calls"]:
        values.append(_called(call, params, values))
    return values[-1]


def _called(call: tuple[Any, ...], params: Parameters, values: Sequence[Tensor]) -> Tensor:
    function, args, kwargs, part, place = call
    samples, dtype, device = len(values[0]), values[0].dtype.to_real(), values[0].device

    def decode(argument: Sequence[Any]) -> Any:
        tag, *content = argument
        if tag == "value":
            index, layout, traced = content
            return _cast(as_traced(values[index], *layout), traced)
        if tag == "param":
            own, dim = params[content[0]], content[1]
            if dim is not None:
                own = torch.repeat_interleave(own.unsqueeze(dim), samples, dim).flatten(dim, dim + 1)
            return own.to(dtype) if own.is_floating_point() else own
        if tag == "samples":
            numbers = torch.arange(samples, device=device)
            return numbers.reshape(*[1] * content[0], -1, *[1] * content[1])
        if tag == "batch":
            return content[0] * samples
        if tag == "list":
            return [decode(item) for item in content[0]]
        if tag == "dtype":
            wanted = getattr(torch, content[0])
            return dtype if wanted.is_floating_point else wanted
        return content[0]

    positional = [decode(argument) for argument in args]
    result = aten_function(function)(*positional, **{name: decode(argument) for name, argument in kwargs})
    own = batch_first(result if part is None else result[part], *place)
    return own if own.is_complex() else own.to(dtype)


def _cast(x: Tensor, traced: str) -> Tensor:
    """Whole numbers and truth values, which a graph holds as reals, as the function takes them."""
    wanted: torch.dtype = getattr(torch, traced)
    if wanted.is_floating_point or wanted.is_complex:
        return x
    return x > 0.5 if wanted == torch.bool else x.round().to(wanted)


OPERATORS = (
    Operator(
        name="aten",
        kind="computes",
        attributes="calls, as traced (`stages.graph.aten.islands`); why they have no integer form; complex: "
        "whether the value is",
        value=calls,
    ),
)
