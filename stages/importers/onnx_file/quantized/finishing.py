"""Values and operators of the program, once all scales are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from stages.importers.onnx_file.quantized.states import Pending, ValueDraft
from stages.importers.onnx_file.reading import MISFITS, OnnxGraph
from stages.importers.onnx_file.tensors import Array
from stages.integer.kernel import signature
from stages.integer.program import Op, Requantize, Value

METADATA = "quantization_pipeline"
"""The key under which files of our own say what QDQ does not: levels of values, and the rounding."""

Account = tuple[float, int, int, int]
"""What a file of our own says of a value: scale, zero point, least and greatest level."""

INT8, UINT8 = np.dtype(np.int8), np.dtype(np.uint8)


@dataclass
class OpDraft:
    """An operator to be: its bounds are levels as stored."""

    op: str
    inputs: tuple[ValueDraft, ...]
    output: ValueDraft
    pending: Pending
    low: int
    high: int


def metadata(graph: OnnxGraph) -> Mapping[str, Any]:
    """What a file of our own says beside its nodes; nothing of a form that is not its own."""
    try:
        said = json.loads(graph.metadata.get(METADATA, "{}"))
        return {
            "values": {
                str(k): (float(scale), int(zero), int(low), int(high))
                for k, (scale, zero, low, high) in said["values"].items()
            },
            "epsilons": {str(k): int(v) for k, v in said["epsilons"].items()},
            "multipliers": {str(k): (int(m), int(s)) for k, (m, s) in said["multipliers"].items()},
            "requantize": {name: name for name in get_args(Requantize)}[said["requantize"]],
        }
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
        return {}


def accounts(drafts: Sequence[ValueDraft], said: Mapping[str, Any]) -> dict[int, dict[str, Account]]:
    """By scale that values share, what a file of our own says of those of them that it names."""
    found: dict[int, dict[str, Account]] = {}
    for draft in drafts:
        if draft.name in said.get("values", {}):
            found.setdefault(id(draft.own), {})[draft.name] = said["values"][draft.name]
    return found


def value_of_draft(draft: ValueDraft, said: Mapping[str, Account] | None) -> Value:
    """The value; levels, and what of its scale the nodes leave open, as the file says of it or its like.

    Raises:
        ValueError: nothing gives its scale.
    """
    info, scale, zero = np.iinfo(draft.dtype), draft.own.scale, draft.own.zero_point
    low, high = (info.min, info.max) if draft.dtype.itemsize < 4 else (0, 2**24 - 1)
    if said:
        own_scale, own_zero, low, high = said.get(draft.name, next(iter(said.values())))
        if scale is None or abs(own_scale - scale) <= 1e-6 * scale:  # which float32 may not hold
            scale = own_scale
        zero = own_zero + offset(draft, low) if zero is None else zero
    if scale is None or zero is None:
        raise ValueError(f"'{draft.name}': nothing says what its levels stand for; the file is damaged")
    return Value(
        name=draft.name,
        shape=draft.shape,
        scale=scale,
        zero_point=zero - offset(draft, low),
        quant_min=low,
        quant_max=high,
    )


def offset(draft: ValueDraft, low: int) -> int:
    """What is added to levels to store them: 128 where levels from `low` on are signed, stored as uint8."""
    return 128 if low < 0 and draft.dtype == UINT8 else 0


def clamps(op: str) -> bool:
    """Whether an operator of the program clamps to bounds of its own."""
    return signature(Op(op=op, inputs=(), output="")).bounded


def _exact(tensors: dict[str, Array], multiplier: int, shift: int) -> dict[str, Array]:
    """The fixed-point ratio that a file of our own says, where it is the one that float32 is near to."""
    computed = float(tensors["multiplier"][0]) * 2.0 ** int(tensors["shift"][0])
    near = -31 <= shift <= 30 and abs(multiplier * 2.0**shift - computed) <= 1e-6 * computed
    if not near or not 2**30 <= multiplier < 2**31:
        return tensors
    return {**tensors, "multiplier": np.array([multiplier], np.int32), "shift": np.array([shift], np.int32)}


def op_of_draft(op: OpDraft, values: Mapping[str, Value], said: Mapping[str, Any]) -> Op:
    """The operator, its bounds within the output's levels."""
    y = values[op.output.name]
    own = offset(op.output, y.quant_min)
    try:
        attrs, tensors = op.pending.build(op.pending, values, y)
    except MISFITS as error:
        raise ValueError(f"{op.pending.source}: {error}") from error
    attrs = {**op.pending.attrs, **attrs}
    if op.output.name in said.get("multipliers", {}) and "multiplier" in tensors:
        tensors = _exact(tensors, *said["multipliers"][op.output.name])
    if clamps(op.op):
        low, high = max(op.low - own, y.quant_min), min(op.high - own, y.quant_max)
        for place, bound in (("low", op.pending.low), ("high", op.pending.high)):
            if bound is not None:
                level = int(np.rint(np.float32(bound) / np.float32(y.scale))) + y.zero_point
                level = min(max(level, y.quant_min), y.quant_max)
                low, high = (max(low, level), high) if place == "low" else (low, min(high, level))
        attrs |= {"act_min": min(low, high), "act_max": high}
    return Op(
        op=op.op,
        inputs=tuple(x.name for x in op.inputs),
        output=op.output.name,
        attrs=attrs,
        tensors=tensors,
    )
