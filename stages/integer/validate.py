"""Is it a program? Everything that the kernels rely on, checked once, before they are prepared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from pipeline.errors import alternatives
from stages.integer.kernel import signature
from stages.integer.limits import check_types, check_value_types, check_work
from stages.integer.program import Op, Program, Requantize, Value
from stages.integer.signature import Signature, tensor_of

PAIRS = frozenset({"kernel", "stride", "padding", "dilation", "factor"})
"""Attributes that are two integers, height and width; all but padding at least 1."""

MAX_COUNT = 2**24 - 1
"""The largest number that a value of counts holds: up to it, float32 is exact."""


def validate(program: Program) -> None:
    """Raise ValueError, naming the operator or value, where `program` is not one that kernels can run."""
    if program.requantize not in get_args(Requantize):
        raise ValueError(f"requantize: {alternatives(program.requantize, get_args(Requantize))}")
    for name, value in program.values.items():
        _check_value(name, value)
    if program.input not in program.values:
        raise ValueError(
            f"input '{program.input}': not among the values; {alternatives(program.input, program.values)}"
        )
    computed = {program.input}
    for op in program.ops:
        where = f"'{op.output}' ({op.op})"
        for name in op.inputs:
            if name not in computed:
                raise ValueError(
                    f"{where}: reads '{name}', which is not computed before; {alternatives(name, computed)}"
                )
        if op.output in computed or op.output not in program.values:
            problem = "is computed twice" if op.output in computed else "is not among the values"
            raise ValueError(f"{where}: '{op.output}' {problem}; each operator computes a value of its own")
        form = signature(op)
        try:
            _check_op(op, form, program.values)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        computed.add(op.output)
    if program.output not in computed:
        raise ValueError(
            f"output '{program.output}': no operator computes it; {alternatives(program.output, computed)}"
        )


def _check_value(name: str, value: Value) -> None:
    where = f"value '{name}'"
    if value.name != name:
        raise ValueError(f"{where}: is named '{value.name}'; must be its key")
    try:
        check_value_types(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    low, high = (-128, 127) if value.quant_min < 0 else (0, 255)
    if value.wide:
        low, high = (
            (-(2**15), 2**15 - 1) if value.quant_min < 0 else (0, MAX_COUNT if value.counts else 2**16 - 1)
        )
    if not low <= value.quant_min <= value.zero_point <= value.quant_max <= high:
        raise ValueError(
            f"{where}: quant_min={value.quant_min}, zero_point={value.zero_point}, "
            f"quant_max={value.quant_max}: must ascend within {low}..{high}"
        )
    if not (0.0 < value.scale < float("inf")):
        raise ValueError(f"{where}: scale={value.scale}: must be positive and finite")


def _check_op(op: Op, form: Signature, values: Mapping[str, Value]) -> None:
    least, most = form.inputs
    if not least <= len(op.inputs) <= (most or len(op.inputs)):
        raise ValueError(f"{len(op.inputs)} inputs: must be {least}..{most or 'any number'}")
    _check_attrs(op, form)
    inputs, y = [values[name] for name in op.inputs], values[op.output]
    _check_tensors(op, form)
    shape = tuple(form.shape(op, [x.shape for x in (inputs[:1] if form.layer else inputs)]))
    if shape != tuple(y.shape):
        raise ValueError(f"gives shape {shape}, but its value is declared as {y.shape}")
    if form.has_residual(op) and inputs[1].shape != y.shape:
        raise ValueError(
            f"residual '{op.inputs[1]}' of shape {inputs[1].shape}: must be the output's {y.shape}"
        )
    check_work(op, inputs, y)
    _check_width(form, inputs, y)
    if form.ratios == "none":
        if (inputs[0].scale, inputs[0].zero_point, inputs[0].dtype) != (y.scale, y.zero_point, y.dtype):
            raise ValueError("moves levels as they are: scale, zero_point and dtype must be the input's")
    elif form.bounded and not y.quant_min <= op.attrs["act_min"] <= op.attrs["act_max"] <= y.quant_max:
        raise ValueError(
            f"act_min={op.attrs['act_min']}, act_max={op.attrs['act_max']}: "
            f"must ascend within the output's levels {y.quant_min}..{y.quant_max}"
        )
    if form.check is not None:
        form.check(op, inputs, y)


def _check_width(form: Signature, inputs: Sequence[Value], y: Value) -> None:
    """Levels beyond 8 bits are read and given by those alone that know them."""
    if form.ratios == "none":
        return
    if any(x.counts and not form.looks_up for x in inputs):
        raise ValueError("reads numbers of tokens; embeddings and tables read them")
    narrow = inputs[:1] if form.layer and form.stream else () if form.stream else inputs
    if any(x.wide and not form.looks_up for x in narrow) or (y.wide and not form.stream):
        raise ValueError(
            "reads or gives levels of more than 8 bits; sums, what they add, and layer norm do alone"
        )


def _check_attrs(op: Op, form: Signature) -> None:
    for name in form.attr_names(op):
        if name not in op.attrs:
            raise ValueError(f"attribute '{name}' is missing; has {', '.join(op.attrs) or 'none'}")
    check_types(op)
    for name in PAIRS & op.attrs.keys():
        pair, least = op.attrs[name], 0 if name == "padding" else 1
        if min(pair) < least:
            raise ValueError(f"{name}={pair}: must be two integers (height, width), at least {least}")
    if op.attrs.get("groups", 1) < 1:
        raise ValueError(f"groups={op.attrs['groups']}: must be at least 1")
    if not 0 <= op.attrs.get("headroom", 0) <= 30:
        raise ValueError(f"headroom={op.attrs['headroom']}: must be 0..30")


def _check_tensors(op: Op, form: Signature) -> None:
    """Names, dtypes, shapes and ranges of an operator's tensors."""
    if form.ratios == "real":
        weight = tensor_of(op, "weight", np.float32)
        bias = tensor_of(op, "bias", np.float32, weight.shape[:1])
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError("weight and bias must be finite")
        return
    if form.layer:
        weight = tensor_of(op, "weight", (np.int8, np.uint8))
        channels = (weight.shape[0],) if weight.ndim else ()
        groups = op.attrs["groups"] if form.ratios == "group" else 1
        tensor_of(op, "bias", np.int32, tuple(rows // groups for rows in channels))
        tensor_of(op, "weight_scale", np.float32, (1,), channels)
        zero_point = tensor_of(op, "weight_zero_point", np.int32, (1,), channels)
        levels = np.iinfo(weight.dtype)
        if ((zero_point < levels.min) | (zero_point > levels.max)).any():
            raise ValueError(
                f"weight_zero_point spans {zero_point.min()}..{zero_point.max()}: "
                f"must be within {weight.dtype}'s {levels.min}..{levels.max}"
            )
    if form.layer:
        _check_ratio(op, "", (1,), channels)
    elif form.ratios not in ("none", "own"):
        _check_ratio(op, "", (len(op.inputs),) if form.ratios == "input" else (1,))
    if form.rescales_residual(op):
        _check_ratio(op, "residual_", (1,))


def _check_ratio(op: Op, prefix: str, *shapes: tuple[int, ...]) -> None:
    multiplier = tensor_of(op, prefix + "multiplier", np.int32, *shapes)
    shift = tensor_of(op, prefix + "shift", np.int32, multiplier.shape)
    ratio = tensor_of(op, prefix + "ratio", np.float32, multiplier.shape)
    if ((multiplier != 0) & (multiplier < 2**30)).any():
        raise ValueError(
            f"{prefix}multiplier has {multiplier[multiplier < 2**30].min()}: must be 0 or 2^30..2^31-1"
        )
    if ((shift < -31) | (shift > 30)).any():
        raise ValueError(f"{prefix}shift spans {shift.min()}..{shift.max()}: must be within -31..30")
    if not (np.isfinite(ratio) & (ratio >= 0)).all():
        raise ValueError(f"{prefix}ratio: must be finite and not negative")
