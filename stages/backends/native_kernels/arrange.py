"""An operator as others that the engine has steps for, and moves that bring its values there.

Images have channels first, tokens last (`tokens`), and kernels work on the channels. An operator along
another dimension, or between values that lie in two ways, is computed on copies: a permutation before, the
operator, and a permutation after. Each is an operator of programs, so that the whole is one too, with the
same levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stages.backends.native_kernels.grouped import GroupedBy, GroupShape
from stages.backends.native_kernels.moves import MOVES
from stages.backends.native_kernels.tokens import CHANNELS_FIRST
from stages.backends.native_kernels.weights import levels
from stages.integer.program import Op, Program, Value


@dataclass
class Arranged:
    """Operators that together compute one, and the values between them.

    Args:
        program: has the operator's own values; those in between are added to it.
        tokens: those of the values that have channels last.
        owner: the operator's output.
    """

    program: Program
    tokens: frozenset[str]
    owner: str
    ops: list[Op] = field(default_factory=list)

    def value(self, like: Value, shape: Sequence[int], token: bool) -> str:
        """A new value, with the levels of `like`."""
        name = f"{self.owner}/step {len(self.program.values)}"
        new = replace(like, name=name, shape=tuple(shape))
        self.program = replace(self.program, values={**self.program.values, name: new})
        if token:
            self.tokens |= {name}
        return name

    def lies(self, name: str) -> bool | None:
        """Whether a value is tokens; None where that makes no difference, in a vector."""
        return None if len(self.program.values[name].shape) < 2 else name in self.tokens

    def permuted(self, name: str, axes: Sequence[int], token: bool) -> str:
        """A value with its dimensions in another order, or lying in another way; itself where it is so."""
        x = self.program.values[name]
        if tuple(axes) == tuple(range(len(axes))) and self.lies(name) in (None, token):
            return name
        y = self.value(x, [x.shape[axis] for axis in axes], token or len(axes) != 3)
        self.ops.append(Op(op="permute", inputs=(name,), output=y, attrs={"axes": tuple(axes)}))
        return y

    def into(self, op: Op, axes: Sequence[int], token: bool) -> None:
        """`op`, whose output is in the order `axes` of its dimensions, and what brings it to its place."""
        y = self.program.values[op.output]
        if tuple(axes) == tuple(range(len(axes))) and self.lies(y.name) in (None, token):
            self.ops.append(op)
            return
        between = self.value(y, [y.shape[axis] for axis in axes], token or len(axes) != 3)
        self.ops.append(replace(op, output=between))
        back = sorted(range(len(axes)), key=lambda i: axes[i])
        self.ops.append(Op(op="permute", inputs=(between,), output=y.name, attrs={"axes": tuple(back)}))


def arranged(op: Op, program: Program, tokens: frozenset[str]) -> Arranged:
    """The operators that compute `op`, in order; `op` alone where it can stay as it is."""
    found = Arranged(program=program, tokens=tokens, owner=op.output)
    rank = len(program.values[op.output].shape)
    names = (*op.inputs, op.output)
    if op.op == "reshape":
        _reshape(found, op)
    elif op.op in MOVES or op.op == "constant":
        found.ops.append(op)
    elif op.op == "table" and program.values[op.inputs[0]].counts:
        _table_of_tokens(found, op)
    elif op.op == "embedding":
        _laid(found, op, token=True)
    elif op.op in ("mean", "amax", "amin"):
        _reduce(found, op)
    elif op.op in ("softmax", "rms_norm") or (op.op == "group_norm" and rank != 3):
        _along(found, op)
    elif op.op == "conv2d" and op.attrs.get("groups", 1) > 1:
        _laid(found, _by_depthwise(found, op), token=False)
    elif op.op in CHANNELS_FIRST:
        _laid(found, op, token=False)
    elif op.op in ("linear", "group_linear", "layer_norm"):
        _laid(found, op, token=True)
    elif op.op == "matmul":
        _matmul(found, op)
    elif op.op == "channel_table" and rank == 3 and op.attrs["axis"]:
        _laid(found, op, token=True)
    elif rank == 3 and len({name in tokens for name in names}) > 1:
        _laid(found, op, token=op.output in tokens)
    else:
        found.ops.append(op)
    return found


def _table_of_tokens(found: Arranged, op: Op) -> None:
    """Rows of one level each."""
    x, y = (found.program.values[name] for name in (op.inputs[0], op.output))
    one = found.value(y, (*x.shape, 1), True)
    tensors = {"table": op.tensors["table"].reshape(-1, 1)}
    _laid(found, Op(op="embedding", inputs=op.inputs, output=one, tensors=tensors), token=True)
    found.ops.append(Op(op="reshape", inputs=(one,), output=y.name, attrs={"shape": y.shape}))


def _laid(found: Arranged, op: Op, *, token: bool) -> None:
    """On values that all lie in one way."""
    ranks = {name: len(found.program.values[name].shape) for name in (*op.inputs, op.output)}
    inputs = tuple(
        found.permuted(name, range(ranks[name]), token) if ranks[name] == 3 else name for name in op.inputs
    )
    op = replace(op, inputs=inputs)
    if ranks[op.output] == 3:
        found.into(op, range(3), token)
    else:
        found.ops.append(op)


def _by_depthwise(found: Arranged, op: Op) -> Op:
    """With each input channel as often as there are outputs of it, where that is faster."""
    shape = GroupShape.of(op)
    _, zero_point = levels(op)
    if shape.outputs == 1 or shape.by(zero_points=bool(zero_point.any())) is not GroupedBy.DEPTHWISE:
        return op
    name = found.permuted(op.inputs[0], range(3), False)
    channels, *size = found.program.values[name].shape
    copies = found.value(found.program.values[name], (channels * shape.outputs, *size), False)
    indices = tuple(i // shape.outputs for i in range(channels * shape.outputs))
    found.ops.append(Op(op="take", inputs=(name,), output=copies, attrs={"axis": 0, "indices": indices}))
    return replace(op, inputs=(copies, *op.inputs[1:]), attrs={**op.attrs, "groups": len(indices)})


def _along(found: Arranged, op: Op) -> None:
    """With the operator's dimension as channels: in front in an image, else the last."""
    rank = len(found.program.values[op.output].shape)
    axis = 0 if op.op == "group_norm" else op.attrs["axis"]
    alike = {found.lies(name) for name in (*op.inputs, op.output)}
    if alike == {False} and axis == 0:
        found.ops.append(op)
        return
    axes = (*(i for i in range(rank) if i != axis), axis)
    inputs = tuple(found.permuted(name, axes, True) for name in op.inputs)
    attrs = dict(op.attrs) if op.op == "group_norm" else {**op.attrs, "axis": rank - 1}
    found.into(replace(op, inputs=inputs, attrs=attrs), axes, True)


def _reduce(found: Arranged, op: Op) -> None:
    """Over rows of tokens, unless it is the mean of an image; dimensions that go, go afterwards."""
    x, y = (found.program.values[name] for name in (op.inputs[0], op.output))
    rank, axes = len(x.shape), tuple(op.attrs["axes"])
    image = found.lies(x.name) is False
    if image and op.op == "mean" and axes == (1, 2) and found.lies(y.name) in (False, None):
        found.ops.append(op)
        return
    source = found.permuted(x.name, range(rank), True) if image else x.name
    if found.lies(y.name) is not False and (rank - 1 not in axes or len(y.shape) == rank):
        found.ops.append(replace(op, inputs=(source,)))
        return
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    between = found.value(y, kept, True)
    found.ops.append(replace(op, inputs=(source,), output=between, attrs={**op.attrs, "keepdim": True}))
    found.ops.append(Op(op="reshape", inputs=(between,), output=y.name, attrs={"shape": y.shape}))


def _matmul(found: Arranged, op: Op) -> None:
    """With as many matrices on both sides, or a single one on the second."""
    y = found.program.values[op.output]
    inputs = []
    for place, name in enumerate(op.inputs):
        name = found.permuted(name, range(len(y.shape)), True)
        shape = found.program.values[name].shape
        if place == 0 or math.prod(shape[:-2]) > 1:
            for axis, (size, wanted) in enumerate(zip(shape[:-2], y.shape[:-2], strict=True)):
                if size != wanted:
                    name = _repeated(found, name, axis, wanted)
        inputs.append(name)
    found.into(replace(op, inputs=tuple(inputs)), range(len(y.shape)), True)


def _repeated(found: Arranged, name: str, axis: int, count: int) -> str:
    x = found.program.values[name]
    y = found.value(x, (*x.shape[:axis], count, *x.shape[axis + 1 :]), True)
    attrs: dict[str, Any] = {"axis": axis, "indices": (0,) * count}
    found.ops.append(Op(op="take", inputs=(name,), output=y, attrs=attrs))
    return y


def _reshape(found: Arranged, op: Op) -> None:
    """By way of a vector, where sizes on both sides do not divide each other."""
    x, y = (found.program.values[name] for name in (op.inputs[0], op.output))
    if _divide(x.shape, y.shape):
        found.ops.append(op)
        return
    size = math.prod(x.shape)
    flat = found.value(x, (size,), False)
    found.ops.append(Op(op="reshape", inputs=(x.name,), output=flat, attrs={"shape": (size,)}))
    found.ops.append(replace(op, inputs=(flat,)))


def _divide(x: Sequence[int], y: Sequence[int]) -> bool:
    """Whether both shapes split into common dimensions."""
    left, right = ([size for size in side if size > 1] for side in (x, y))
    while left and right:
        a, b = left.pop(), right.pop()
        if max(a, b) % min(a, b):
            return False
        if a != b:
            (left if a > b else right).append(max(a, b) // min(a, b))
    return True
