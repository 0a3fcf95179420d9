"""Programs of TFLite files without what the format makes necessary: they compute the same integers.

A file has padding, bounds and changes of scale as operators of their own where our operators have them
themselves, and turns images round whatever reads them next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stages.integer.kernel import signature
from stages.integer.program import Op, Program

EXTREMES = {"maximum": max, "minimum": min}
BROADCAST = ("add", "subtract", "multiply", "maximum", "minimum")
MOVES = ("permute", "reshape")
REQUANTIZE = ("maximum", "minimum", "concat")
"""Operators that bring their inputs to the output's scale themselves."""

RATIO = ("multiplier", "shift", "ratio")


def tidied(program: Program) -> Program:
    """The program with each of the steps below taken."""
    for step in (without_turns, without_ones, with_bounds, with_ratios, without_pads):
        program = step(program)
    return program


def without_turns(program: Program) -> Program:
    """The program with permutations and reshapes in a row as one, and without those that change nothing."""
    made: dict[str, Op] = {}
    same: dict[str, str] = {}
    for op in program.ops:
        op = replace(op, inputs=tuple(same.get(name, name) for name in op.inputs))
        before = made.get(op.inputs[0]) if op.inputs else None
        if before is not None and op.op == before.op == "permute":
            axes = tuple(before.attrs["axes"][axis] for axis in op.attrs["axes"])
            op = replace(op, inputs=before.inputs, attrs={"axes": axes})
        op = _reshaping(op, program)
        before = made.get(op.inputs[0]) if op.inputs else None
        if before is not None and op.op == before.op == "reshape":
            op = replace(op, inputs=before.inputs)
        if _does_nothing(op, program) and (op.output, op.inputs[0]) != (program.output, program.input):
            same[op.output] = op.inputs[0]
        else:
            made[op.output] = op
    output = same.get(program.output, program.output)
    return _of_use(replace(program, ops=tuple(made.values()), output=output))


def without_ones(program: Program) -> Program:
    """The program without reshapes that put ones before the dimensions of what broadcasts anyhow."""
    made = {op.output: op for op in program.ops if op.op == "reshape"}
    ops = []
    for op in program.ops:
        if op.op in BROADCAST:
            inputs = list(op.inputs)
            for i, name in enumerate(op.inputs):
                source = made[name].inputs[0] if name in made else name
                shape, aligned = program.values[source].shape, program.values[name].shape
                others = [len(program.values[other].shape) for other in inputs[:i] + inputs[i + 1 :]]
                if aligned == (*[1] * (len(aligned) - len(shape)), *shape) and len(aligned) in others:
                    inputs[i] = source
            op = replace(op, inputs=tuple(inputs))
        ops.append(op)
    return _of_use(replace(program, ops=tuple(ops)))


def _reshaping(op: Op, program: Program) -> Op:
    """A permutation that moves dimensions of 1 alone as a reshape."""
    if op.op != "permute":
        return op
    shape = program.values[op.inputs[0]].shape
    moving = [axis for axis in op.attrs["axes"] if shape[axis] > 1]
    if moving != sorted(moving):
        return op
    return replace(op, op="reshape", attrs={"shape": program.values[op.output].shape})


def _does_nothing(op: Op, program: Program) -> bool:
    return op.op == "reshape" and program.values[op.inputs[0]].shape == program.values[op.output].shape


def _of_use(program: Program) -> Program:
    """The program with what its output depends on."""
    needed, kept = {program.output}, []
    for op in reversed(program.ops):
        if op.output in needed:
            kept.append(op)
            needed.update(op.inputs)
    needed.add(program.input)
    values = {name: value for name, value in program.values.items() if name in needed}
    return replace(program, values=values, ops=tuple(reversed(kept)))


def _reads(program: Program) -> Counter[str]:
    return Counter(name for op in program.ops for name in op.inputs) + Counter([program.output])


def with_bounds(program: Program) -> Program:
    """The program with a maximum or minimum with one level as the bounds of what computes its input."""
    reads, made = _reads(program), dict[str, Op]()
    for op in program.ops:
        bound = _bound(op, made, program)
        if bound is None:
            made[op.output] = op
            continue
        name, level = bound
        last = maker = made[name]
        if last.op in MOVES:  # an extreme of what is moved is what is moved of an extreme
            maker = made.get(last.inputs[0], last)
        if "act_min" not in maker.attrs or reads[name] != 1 or reads[maker.output] != 1:
            made[op.output] = op
            continue
        least, most = (
            int(np.clip(EXTREMES[op.op](maker.attrs[end], level), op.attrs["act_min"], op.attrs["act_max"]))
            for end in ("act_min", "act_max")
        )
        bounded = replace(maker, attrs={**maker.attrs, "act_min": least, "act_max": most})
        del made[name]
        if last is maker:
            made[op.output] = replace(bounded, output=op.output)
        else:
            made[maker.output], made[op.output] = bounded, replace(last, output=op.output)
    return _of_use(replace(program, ops=tuple(made.values())))


def _bound(op: Op, made: Mapping[str, Op], program: Program) -> tuple[str, int] | None:
    """Which value an operator bounds, and by what level."""
    if op.op not in EXTREMES or not _keeps(op):
        return None
    for x, limit in (op.inputs, op.inputs[::-1]):
        maker, constant = made.get(x), made.get(limit)
        if maker is None or constant is None or constant.op != "constant":
            continue
        levels = constant.tensors["levels"]
        a, y = program.values[x], program.values[op.output]
        alike = _alike(a, y) and _alike(program.values[limit], y) and a.shape == y.shape
        if alike and levels.size and levels.min() == levels.max():
            return x, int(levels.flat[0])
    return None


def with_ratios(program: Program) -> Program:
    """The program with a requantization of what an operator joins as that operator's own ratio."""
    reads, made = _reads(program), {op.output: op for op in program.ops}
    ops = []
    for op in program.ops:
        if op.op in REQUANTIZE and _keeps(op):
            inputs, parts = [], []
            for i, name in enumerate(op.inputs):
                own = made.get(name)
                if own is not None and own.op == "requantize" and reads[name] == 1 and _whole(own, program):
                    inputs.append(own.inputs[0])
                    parts.append({key: own.tensors[key][:1] for key in RATIO})
                else:
                    inputs.append(name)
                    parts.append({key: op.tensors[key][i : i + 1] for key in RATIO})
            tensors = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            op = replace(op, inputs=tuple(inputs), tensors=tensors)
        ops.append(op)
    return _of_use(replace(program, ops=tuple(ops)))


def _keeps(op: Op) -> bool:
    """Whether all inputs have the output's scale."""
    return bool((op.tensors["ratio"] == 1).all())


def _whole(op: Op, program: Program) -> bool:
    """Whether an operator's bounds are those of its output's levels."""
    y = program.values[op.output]
    return (op.attrs["act_min"], op.attrs["act_max"]) == (y.quant_min, y.quant_max)


def _alike(a: Any, b: Any) -> bool:
    return (a.scale, a.zero_point, a.dtype) == (b.scale, b.zero_point, b.dtype)


def without_pads(program: Program) -> Program:
    """The program with zeros that a convolution alone reads as its own padding, where that gives its windows.

    A convolution pads both sides alike; zeros at an end that no window reaches may be left out of a file.
    """
    made = {op.output: op for op in program.ops if op.op == "pad"}
    reads = Counter(name for op in program.ops for name in op.inputs) + Counter([program.output])
    values, ops = dict(program.values), []
    for op in program.ops:
        pad = made.get(op.inputs[0])
        if op.op == "conv2d" and pad is not None and reads[pad.output] == 1:
            channels, *image = pad.attrs["pads"]
            own = op.attrs["padding"]
            padding = tuple(both + before for both, (before, _) in zip(own, image, strict=True))
            padded = replace(op, inputs=pad.inputs, attrs={**op.attrs, "padding": padding})
            if channels == (0, 0) and _gives(padded, program):
                op = padded
                del values[pad.output]
        ops.append(op)
    return replace(program, values=values, ops=tuple(op for op in ops if op.output in values))


def _gives(op: Op, program: Program) -> bool:
    """Whether the operator gives its output's shape."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    try:
        return tuple(signature(op).shape(op, [x.shape])) == y.shape
    except ValueError:
        return False
