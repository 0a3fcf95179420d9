"""Which memory each value of a program has in C: the caller's, the arena's, or a constant's.

A reshaped value is its input; a table works in place where its input is dead afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stages.exporters.c_code.arena import Lifetime, plan
from stages.integer.program import Op, Program, Value

IN_PLACE = frozenset({"table", "channel_table"})
"""Operators that read each level once, before they write the one in its place."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """For each value a C expression of type ``(const) int8_t *``, and the arena's size in bytes."""

    of: Mapping[str, str]
    arena_bytes: int


def bytes_of(value: Value) -> int:
    """Bytes of one sample's levels."""
    return math.prod(value.shape) * value.dtype.itemsize


def place(program: Program, *, copies_input: bool, constants: Mapping[str, str]) -> Places:
    """The places of all values.

    Args:
        program: signed, as `stages.exporters.c_code.signed` makes it.
        copies_input: whether the input is converted into a buffer of its own before the first operator.
        constants: by value that an operator `constant` gives, the array's name.
    """
    last = {name: step for step, op in enumerate(program.ops) for name in (op.output, *op.inputs)}
    last[program.output] = len(program.ops)
    last.setdefault(program.input, -1)
    root = {program.input: program.input}
    for step, op in enumerate(program.ops):
        root[op.output] = _root(op, step, program, root, last) or op.output
    fixed = dict(constants) if copies_input else {**constants, program.input: "input"}
    buffers: dict[str, Lifetime] = {}
    for step, name in enumerate([program.input, *(op.output for op in program.ops)], start=-1):
        own = root[name]
        if own not in fixed:
            size, first = bytes_of(program.values[own]), buffers[own].first if own in buffers else step
            end = max(last[name], buffers[own].last if own in buffers else step)
            buffers[own] = Lifetime(size=size, first=first, last=end)
    if buffers.pop(root[program.output], None) is not None:
        fixed[root[program.output]] = "output"
    arena = plan(buffers)
    where = {name: f"AT({offset})" for name, offset in arena.offsets.items()} | fixed
    return Places(of={name: where[own] for name, own in root.items()}, arena_bytes=arena.size)


def _root(
    op: Op, step: int, program: Program, root: Mapping[str, str], last: Mapping[str, int]
) -> str | None:
    """The value whose memory the operator's result shares, if any."""
    x, y = (program.values[name] for name in (op.inputs[0], op.output))
    if op.op == "reshape":
        return root[x.name]
    if op.op in IN_PLACE and x.dtype == y.dtype and root[x.name] != program.input:
        family = [name for name, own in root.items() if own == root[x.name]]
        constant = any(other.op == "constant" and other.output == root[x.name] for other in program.ops)
        if not constant and all(last[name] <= step for name in family):
            return root[x.name]
    return None
