"""What functions share: operands as numbers, axes, padding by `auto_pad`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from stages.importers.onnx_file.tensors import Array


class Batch:
    """How many samples a call has, which the nodes of a network share.

    Args:
        fixed: the number that the file was made for; None for any.
    """

    def __init__(self, fixed: int | None) -> None:
        self.fixed = fixed
        self.samples = 0

    def whole(self, size: int, start: int, end: int, step: int) -> bool:
        """Whether a slice of `size` entries stands for all samples of a file that was made for so many."""
        return (
            self.fixed is not None and size == self.samples and (start, step) == (0, 1) and end >= self.fixed
        )


class NodeModule(Protocol):
    """A node's module, as functions see it."""

    opset: int
    batch: Batch
    training: bool
    node: Any

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""

    def constant(self, place: int) -> bool:
        """Whether the operand at a place is a constant."""


def numbers(x: Tensor | Array | None, what: str) -> list[Any]:
    """A constant operand as a list. Raises ValueError where it is computed from the input."""
    if x is None:
        raise ValueError(f"{what} is missing")
    if isinstance(x, Tensor):
        raise ValueError(
            f"{what} depends on the input's values. Remedy: export the network with constants, or onnxsim"
        )
    listed: list[Any] = np.asarray(x).reshape(-1).tolist()
    return listed


def given(op: NodeModule, name: str, operands: Sequence[Any], place: int) -> list[Any] | None:
    """Numbers that are an attribute in older versions and an operand in newer ones; None for neither."""
    value = op.attr(name)
    if value is not None:
        return list(value) if isinstance(value, list | tuple) else [value]
    if place < len(operands) and operands[place] is not None:
        return numbers(operands[place], name)
    return None


def tensor(x: Tensor | Array, like: Tensor | None = None) -> Tensor:
    """An operand as a tensor."""
    if isinstance(x, Tensor):
        return x
    made = torch.from_numpy(np.ascontiguousarray(x))
    return made if like is None else made.to(like.dtype)


def axis_of(axis: int, rank: int) -> int:
    """An axis from the front. Raises ValueError where there is no such dimension."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis={axis} of {rank} dimensions")
    return axis % rank


def window(
    op: NodeModule, x: Tensor, kernel: Sequence[int]
) -> tuple[list[int], list[int], list[int], list[int]]:
    """(strides, dilations, padding before, padding after) of a window, with `auto_pad` worked out."""
    rank = len(kernel)
    if x.ndim != rank + 2:
        raise ValueError(f"an input of {x.ndim} dimensions for a window of {rank}")
    strides = list(op.attr("strides") or [1] * rank)
    dilations = list(op.attr("dilations") or [1] * rank)
    pads = list(op.attr("pads") or [0] * 2 * rank)
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise ValueError(f"strides {strides}, dilations {dilations} and pads {pads} for a window of {rank}")
    if min([*strides, *dilations]) < 1 or min(pads) < 0:
        raise ValueError(f"strides {strides}, dilations {dilations}, pads {pads}: must not be negative")
    before, after = pads[:rank], pads[rank:]
    auto = op.attr("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        for i in range(rank):
            size = int(x.shape[2 + i])
            reach = dilations[i] * (kernel[i] - 1) + 1
            total = max((-(-size // strides[i]) - 1) * strides[i] + reach - size, 0)
            small, large = total // 2, total - total // 2
            before[i], after[i] = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        before, after = [0] * rank, [0] * rank
    elif auto not in ("NOTSET", ""):
        raise ValueError(f"auto_pad={auto}: must be NOTSET, SAME_UPPER, SAME_LOWER or VALID")
    return strides, dilations, before, after


def padding(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """As `torch.nn.functional.pad` takes it: the last dimension first."""
    return [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
