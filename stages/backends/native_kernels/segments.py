"""A program in parts: runs of operators that the engine has steps for, and single ones that it has not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from stages.backends.native_kernels.arrange import Arranged, arranged
from stages.backends.native_kernels.drafts import drafts_of
from stages.backends.native_kernels.planner import Draft, Pins, Plan, plan
from stages.backends.native_kernels.tflm import in_profile
from stages.backends.native_kernels.tokens import as_images, channels_last, over_images
from stages.integer.kernel import Kernel, prepare_kernel
from stages.integer.program import Op, Program, Value
from stages.integer.unsigned import unsigned


@dataclass(frozen=True)
class ByReference:
    """An operator with the reference's kernel."""

    op: Op
    kernel: Kernel
    dead: tuple[str, ...] = ()
    """Values that nothing reads after it."""


Part = Plan | ByReference

EngineSteps = tuple[list[list[Draft] | None], Mapping[str, Value]]


WIDE = frozenset(
    {
        *("add", "subtract", "linear", "conv2d", "group_conv2d", "requantize", "layer_norm", "embedding"),
        *("constant", "table"),
        *("permute", "reshape", "slice", "take", "pad"),
    }
)
"""Operators that the engine has steps for where levels have more than 8 bits."""


def _known(op: Op, program: Program) -> bool:
    """Whether the engine knows the widths and sizes of its values."""
    values = [program.values[name] for name in (*op.inputs, op.output)]
    return all(math.prod(value.shape) for value in values) and (
        op.op in WIDE or not any(value.wide for value in values)
    )


def engine_steps(program: Program, pins: Pins, tokens: frozenset[str]) -> EngineSteps:
    """The steps of each operator; None where it is left to the reference.

    Args:
        program: valid.
        pins: keeps what the steps point to.
        tokens: values with channels last.

    Returns:
        Steps, and the program's values in the shapes of images, with those between the steps of an operator.
    """
    levels = unsigned(program)
    steps: list[list[Draft] | None] = []
    between: dict[str, Value] = {}
    for own_op in levels.ops:
        op, made = in_profile(own_op, program, levels), None
        if _known(op, levels):
            own = {name: levels.values[name] for name in (*op.inputs, op.output)}
            one = arranged(op, replace(levels, values=own), tokens)
            images = as_images(one.program, one.tokens)
            made = _drafts(one, images, pins)
            between |= {name: value for name, value in images.values.items() if name not in own}
        steps.append(made)
    return steps, between


def _drafts(one: Arranged, images: Program, pins: Pins) -> list[Draft] | None:
    """The steps of the operators that together compute one."""
    found: list[Draft] = []
    for op in one.ops:
        over = over_images(op, one.program, one.tokens)
        drafts = None if over is None else drafts_of(over, images, pins)
        if drafts is None:
            return None
        found += (replace(draft, owner=one.owner) for draft in drafts)
    return found


def work(op: Op, program: Program) -> int:
    """Operations for one sample: products of layers and matrices, and values of all else."""
    elements = math.prod(program.values[op.output].shape)
    if "weight" in op.tensors:
        return (
            elements
            * int(op.tensors["weight"][0].size)
            * (op.attrs["groups"] if op.op.startswith("group_") else 1)
        )
    return elements * (program.values[op.inputs[0]].shape[-1] if op.op == "matmul" else 1)


def on_engine(program: Program) -> frozenset[str]:
    """The outputs of operators that the engine has steps for."""
    steps, _ = engine_steps(program, Pins(), channels_last(program))
    return frozenset(op.output for op, step in zip(program.ops, steps, strict=True) if step is not None)


def parts(program: Program, *, keep: bool, dot_offset: int = 0, panels: bool = False) -> list[Part]:
    """In order of execution.

    Args:
        program: valid.
        keep: whether every value goes to an array, or only what later parts read.
        dot_offset: what the engine's products take away from levels first.
        panels: whether its convolutions go by panels.
    """
    weights = sum(op.tensors["weight"].size for op in program.ops if "weight" in op.tensors)
    pins = Pins(dot_offset=dot_offset, panels=panels, program_weights=weights)
    tokens = channels_last(program)
    images = as_images(program, tokens)
    steps, between = engine_steps(program, pins, tokens)
    images = replace(images, values={**images.values, **between})
    alone = [-1 if step is not None else i for i, step in enumerate(steps)]
    spans = [list(span) for _, span in groupby(range(len(steps)), key=alone.__getitem__)]
    result: list[Part] = []
    for span in spans:
        ops = [program.ops[i] for i in span]
        drafts = [draft for i in span for draft in steps[i] or ()]
        later = {name for op in program.ops[span[-1] + 1 :] for name in op.inputs} | {program.output}
        made = {op.output for op in ops}
        read = dict.fromkeys(name for op in ops for name in op.inputs if name not in made)
        dead = () if keep else tuple(name for name in read if name not in later)
        if steps[span[0]] is None:
            result.append(ByReference(ops[0], prepare_kernel(ops[0], program), dead))
        else:
            outputs = [op.output for op in ops if keep or op.output in later]
            result.append(plan(images, drafts, list(read), outputs, pins, tokens, dead))
    return result
