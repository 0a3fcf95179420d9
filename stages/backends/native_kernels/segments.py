"""A program in parts: runs of operators that the engine has steps for, and single ones that it has not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from stages.backends.native_kernels.drafts import drafts_of
from stages.backends.native_kernels.planner import Draft, Pins, Plan, plan
from stages.backends.native_kernels.tokens import as_images, channels_last, over_images
from stages.integer.kernel import Kernel, prepare_kernel
from stages.integer.program import Op, Program
from stages.integer.unsigned import unsigned


@dataclass(frozen=True)
class ByReference:
    """An operator with the reference's kernel."""

    op: Op
    kernel: Kernel
    dead: tuple[str, ...] = ()
    """Values that nothing reads after it."""


Part = Plan | ByReference


def _wide(op: Op, program: Program) -> bool:
    """Whether it reads or gives levels that 8 bits do not hold."""
    return any(program.values[name].wide for name in (*op.inputs, op.output))


def engine_steps(program: Program, pins: Pins, tokens: frozenset[str]) -> list[list[Draft] | None]:
    """The steps of each operator; None where it is left to the reference.

    Args:
        program: valid.
        pins: keeps what the steps point to.
        tokens: values with channels last.
    """
    levels = unsigned(program)
    images = as_images(levels, tokens)
    over = [None if _wide(op, program) else over_images(op, levels, tokens) for op in levels.ops]
    return [None if op is None else drafts_of(op, images, pins) for op in over]


def on_engine(program: Program) -> frozenset[str]:
    """The outputs of operators that the engine has steps for."""
    steps = engine_steps(program, Pins(), channels_last(program))
    return frozenset(op.output for op, step in zip(program.ops, steps, strict=True) if step is not None)


def parts(program: Program, *, keep: bool, dot_offset: int = 0) -> list[Part]:
    """In order of execution.

    Args:
        program: valid.
        keep: whether every value goes to an array, or only what later parts read.
        dot_offset: what the engine's products take away from levels first.
    """
    pins, tokens = Pins(dot_offset=dot_offset), channels_last(program)
    images = as_images(program, tokens)
    steps = engine_steps(program, pins, tokens)
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
