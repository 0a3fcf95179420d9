"""Masks of attention: what adds −∞ to scores, or a number that is as good as that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
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
    mask = call.args[1]
    keep = Param(mask.key, ~mask.tensor.bool()) if isinstance(mask, Param) else mask
    return _filled(call, 0, keep, _number(call.args[2]), inverted=isinstance(mask, Ref))


def _where(call: Call) -> Node | str:
    """``where(c, x, −∞)`` and ``where(c, −∞, x)``, also with 0."""
    condition, *operands = call.args[:3]
    for position, other in ((1, operands[1]), (2, operands[0])):
        if isinstance(call.args[position], Ref) and not isinstance(other, Ref):
            keep = condition
            if isinstance(condition, Param) and position == 2:
                keep = Param(condition.key, ~condition.tensor.bool())
            inverted = isinstance(condition, Ref) and position == 2
            return _filled(call, position, keep, _number(other), inverted=inverted)
    raise ValueError("chooses between two values; only a number in the place of one has an integer form")


def _number(argument: object) -> float:
    if isinstance(argument, Param):
        if argument.tensor.numel() > 1 and (argument.tensor != argument.tensor.flatten()[0]).any():
            raise ValueError("fills in several numbers; only one has an integer form")
        return float(argument.tensor.flatten()[0])
    if isinstance(argument, int | float):
        return float(argument)
    raise ValueError("fills in what is computed; only a number has an integer form")


def _filled(call: Call, position: int, keep: Ref | Param, number: float, *, inverted: bool) -> Node | str:
    """A value where `keep` is true, or false where it is `inverted`, and a number elsewhere."""
    chain = Chain.over(call, position)
    if chain.shape != call.shape:
        raise ValueError(f"broadcasts {chain.shape} to its mask's {call.shape}")
    if number > EXCLUDED and number != 0.0:
        raise ValueError(f"fills in {number:g}; only 0, and what a softmax makes 0, have an integer form")
    kept = (
        excluding(call, keep.tensor, chain.shape) if isinstance(keep, Param) else _truth(call, keep, inverted)
    )
    if number == 0.0:
        return chain.then("multiply", chain.shape, kept, scale=1.0).result()
    return chain.then("mask", chain.shape, kept, fill=number).result()


def _truth(call: Call, mask: Ref, inverted: bool) -> str:
    """The name of truth values, or of their inverse, with as many dimensions as the call's result."""
    if mask.dtype != torch.bool:
        raise ValueError("its mask holds no truth values")
    truth = _ranked(call, Chain(call, mask.name, mask.layout.sample))
    if inverted:
        truth.then("table", truth.shape, steps=(("affine", -1.0, 1.0),))
    return truth.name


def _and(call: Call) -> Node | str:
    """Both of two truth values: their product, which is 0 or 1."""
    if call.dtype != torch.bool:
        raise ValueError("is taken of whole numbers, bit by bit")
    values = [i for i, argument in enumerate(call.args[:2]) if isinstance(argument, Ref)]
    chain = _ranked(call, Chain.over(call, values[0]))
    other = call.args[1 - values[0]]
    if isinstance(other, Ref):
        return chain.then("multiply", call.shape, _truth(call, other, inverted=False), scale=1.0).result()
    if not isinstance(other, Param):
        raise ValueError("is taken of a number")
    if other.tensor.all():
        return chain.expand(call.shape).result()
    kept = excluding(call, other.tensor, call.shape)
    return chain.then("multiply", call.shape, kept, scale=1.0).result()


def _ranked(call: Call, chain: Chain) -> Chain:
    """A value with as many dimensions as the call's result."""
    return chain.reshape((*[1] * (len(call.shape) - len(chain.shape)), *chain.shape))


MASKS: Mapping[str, Translation] = {
    "masked_fill": _masked_fill,
    "where": _where,
    **dict.fromkeys(("logical_and", "bitwise_and", "__and__"), _and),
}
