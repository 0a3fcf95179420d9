"""Tables of levels: of functions, of ratios, of channels, of tokens, and constants."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.backends.native_kernels.planner import Draft, Pins, image_shape
from stages.backends.native_kernels.structures import StepKind
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program


def table_of(op: Op, program: Program) -> NDArray[np.uint8]:
    """What an operator on single levels makes of each of 256, by the reference's own kernel."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    one = Program(
        values={value.name: replace(value, shape=(1,)) for value in (x, y)},
        ops=(op,),
        input=x.name,
        output=y.name,
        requantize=program.requantize,
    )
    levels = prepare_kernel(op, one)(np.arange(256, dtype=np.uint8).reshape(256, 1))
    return levels.reshape(-1).astype(np.uint8)


def table_of_input(op: Op, program: Program, index: int) -> NDArray[np.uint8]:
    """What a concatenation makes of each level of one of its inputs."""
    one = Op(
        op="requantize",
        inputs=(op.inputs[index],),
        output=op.output,
        attrs={key: op.attrs[key] for key in ("act_min", "act_max")},
        tensors={key: op.tensors[key][index : index + 1] for key in ("multiplier", "shift", "ratio")},
    )
    return table_of(one, program)


def channel_table(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """One a channel or, along another dimension of tokens, one a row."""
    fields: tuple[tuple[str, Any], ...] = (("table", pins(op.tensors["table"], ctypes.c_uint8)),)
    if op.attrs["axis"]:
        fields = (*fields, ("map", pins(op.attrs["map"], ctypes.c_int32)))
    return [Draft(StepKind.CHANNEL_TABLE, op.output, op.inputs[0], fields=fields)]


def constant(op: Op, program: Program, pins: Pins) -> list[Draft]:
    """Levels with channels last, as images have them."""
    levels = op.tensors["levels"]
    if levels.ndim == 3 and not op.attrs["tokens"]:
        levels = levels.transpose(1, 2, 0)
    return [Draft(StepKind.CONSTANT, op.output, fields=(("table", pins(levels, ctypes.c_uint8)),))]


def embedding(op: Op, program: Program, pins: Pins) -> list[Draft]:
    """A row of the table for each token."""
    table = op.tensors["table"]
    fields = (("table", pins(table, ctypes.c_uint8)), ("count", len(table)))
    return [Draft(StepKind.EMBED, op.output, op.inputs[0], fields=fields)]


def looked_up(op: Op, program: Program, pins: Pins) -> list[Draft] | None:
    """A table of levels; one of tokens is a row of a single level each."""
    x, y = program.values[op.inputs[0]], program.values[op.output]
    if x.wide:
        return None
    fields = (
        *(("stride_h", 1), ("stride_w", 1), ("divide_h", 1), ("divide_w", 1)),
        ("channels", image_shape(y)[0]),
        ("table", pins(op.tensors["table"], ctypes.c_uint8)),
    )
    return [Draft(StepKind.COPY, op.output, x.name, fields=fields)]
