"""Masks of attention: what adds −∞ to scores, or a number that is as good as that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from stages.graph.aten.call import Call, Param, Ref, Translation
from stages.graph.aten.chain import Chain
from stages.graph.ir import Node
from stages.graph.masks import EXCLUDED


def excluding(call: Call, keep: Tensor, shape: Sequence[int]) -> str:
    """The name of a constant that says which entries of `shape` are kept; its dimensions are those, or 1."""
    while keep.ndim > len(shape) and len(keep) == 1:
        keep = keep[0]
    if keep.ndim > len(shape):
        raise ValueError(f"masks with shape {tuple(keep.shape)} what is {tuple(shape)}: one for each sample")
    keep = keep.reshape(*[1] * (len(shape) - keep.ndim), *keep.shape)
    param = call.derived(Param("keep", keep), keep)
    return call.emit(call.constant(param, tuple(keep.shape)))


def _masked_fill(call: Call) -> Node | str:
    if not isinstance(call.args[1], Param):
        raise ValueError("its mask is computed; only a constant one has an integer form")
    return _filled(call, call.value(), ~call.args[1].tensor.bool(), _number(call.args[2]))


def _where(call: Call) -> Node | str:
    """``where(c, x, −∞)`` and ``where(c, −∞, x)``, also with 0, of a constant condition."""
    condition, *operands = call.args[:3]
    if not isinstance(condition, Param):
        raise ValueError("its condition is computed; only a constant one has an integer form")
    keep = condition.tensor.bool()
    for position, other in ((1, operands[1]), (2, operands[0])):
        if isinstance(call.args[position], Ref) and not isinstance(other, Ref):
            return _filled(call, call.value(position), keep if position == 1 else ~keep, _number(other))
    raise ValueError("chooses between two values; only a number in the place of one has an integer form")


def _number(argument: object) -> float:
    if isinstance(argument, Param):
        if argument.tensor.numel() > 1 and (argument.tensor != argument.tensor.flatten()[0]).any():
            raise ValueError("fills in several numbers; only one has an integer form")
        return float(argument.tensor.flatten()[0])
    if isinstance(argument, int | float):
        return float(argument)
    raise ValueError("fills in what is computed; only a number has an integer form")


def _filled(call: Call, name: str, keep: Tensor, number: float) -> Node | str:
    chain = Chain(call, name, call.nodes[name].shape)
    if chain.shape != call.shape:
        raise ValueError(f"broadcasts {chain.shape} to its mask's {call.shape}")
    if number <= EXCLUDED:
        return chain.then("mask", chain.shape, excluding(call, keep, chain.shape), fill=number).result()
    if number != 0.0:
        raise ValueError(f"fills in {number:g}; only 0, and what a softmax makes 0, have an integer form")
    kept = excluding(call, keep, chain.shape)
    return chain.then("multiply", chain.shape, kept, scale=1.0).result()


MASKS: Mapping[str, Translation] = {"masked_fill": _masked_fill, "where": _where}
