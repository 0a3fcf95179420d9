"""Casts, comparisons and logic: truth values are the reals 0 and 1, whole numbers are reals."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch

from stages.graph.aten.call import Call, Param, SampleNumbers, Translation
from stages.graph.aten.functions import affine, number, table
from stages.graph.ir import Node

_RELATIONS = ("gt", "ge", "lt", "le", "eq", "ne")


def _cast(call: Call) -> Node | str:
    before, after = call.input_dtype(), call.dtype
    if after == torch.bool and before != torch.bool:
        return table(call, "nonzero")
    if before.is_floating_point and not after.is_floating_point:
        return table(call, "trunc")
    return call.value()


def _compare(relation: str, call: Call) -> Node:
    if (bound := number(call)) is None or isinstance(call.args[0], Param):
        raise ValueError("compares two values")
    return table(call, "compare", relation, bound)


def _not(call: Call) -> Node:
    if call.input_dtype() != torch.bool:
        raise ValueError("is taken of whole numbers, bit by bit")
    return affine(call, -1.0, 1.0)


def _and(call: Call) -> Node | str:
    if call.dtype != torch.bool:
        raise ValueError("is taken of whole numbers, bit by bit")
    for position in (0, 1):
        argument = call.args[1 - position]
        if isinstance(argument, Param) and bool(argument.tensor.all()):
            if call.input_shape(position) != call.shape:
                break
            return call.value(position)
    raise ValueError("has no integer form")


def _index(call: Call) -> Node | str:
    """``x[n, i]`` with n the number of each sample: as ``x[:, i]`` of all."""
    indices, traced = call.args[1], call.input_layout()
    numbers = [i for i, index in enumerate(indices) if isinstance(index, SampleNumbers)]
    if numbers != [0] or not traced.first or len(indices) != 2 or len(traced.sample) != 1:
        raise ValueError("has no integer form")
    wanted = indices[1].tensor.flatten()
    if not torch.equal(wanted, torch.arange(len(wanted))) or len(wanted) != traced.sample[0]:
        raise ValueError("selects in another order")
    return Node(name="", op="reshape", inputs=(call.value(),), attrs={"shape": call.shape})


CASTS: Mapping[str, Translation] = {
    "to": _cast,
    "_to_copy": _cast,
    "type_as": _cast,
    **{relation: partial(_compare, relation) for relation in _RELATIONS},
    "logical_not": _not,
    "bitwise_not": _not,
    "logical_and": _and,
    "bitwise_and": _and,
    "__and__": _and,
    "index": _index,
}
