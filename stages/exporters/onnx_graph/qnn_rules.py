"""What Qualcomm's HTP takes of an integer program, and how levels are stored for it. Needs no onnx.

Each rule was measured on the simulator of onnxruntime-qnn 2.7.0 (QAIRT 2.51): what is refused here fails
there, when the graph is divided or prepared, or gives wrong levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stages.exporters.exporter import named, no_form
from stages.exporters.levels import storage_dtype
from stages.integer.program import Op, Program, Value

KNOWN = frozenset(
    {
        "add",
        "amax",
        "amin",
        "avg_pool2d",
        "channel_table",
        "concat",
        "constant",
        "conv2d",
        "embedding",
        "float_conv2d",
        "float_linear",
        "insert_zeros",
        "layer_norm",
        "linear",
        "matmul",
        "max_pool2d",
        "maximum",
        "mean",
        "minimum",
        "multiply",
        "pad",
        "permute",
        "requantize",
        "reshape",
        "resample",
        "slice",
        "softmax",
        "subtract",
        "table",
        "take",
        "upsample_nearest",
    }
)
"""Operators that have a form."""


def qnn_dtype(value: Value) -> np.dtype[Any]:
    """uint8; uint16 for a residual stream of 16 bits; int32 for numbers of tokens."""
    return np.dtype(np.uint16) if value.wide and not value.counts else storage_dtype(value)


def qnn_offset(value: Value) -> int:
    """What is added to levels to store them: half of the dtype's number of them, where they are signed."""
    return 1 << (8 * qnn_dtype(value).itemsize - 1) if value.quant_min < 0 else 0


def qnn_refusals(program: Program) -> list[str]:
    """Why HTP does not take `program`: each reason with its operators and a remedy; else empty."""
    reasons = no_form(program, KNOWN, "QNN")
    for fails, reason in _RULES:
        names = [op.output for op in program.ops if fails(op, program)]
        if names:
            reasons.append(f"{named(names)}: {reason}")
    return reasons


def _has_zero_points(op: Op, program: Program) -> bool:
    zero_point = op.tensors.get("weight_zero_point", np.zeros(1, np.int32))
    return zero_point.size > 1 and bool(zero_point.any())


def _is_dilated_pool(op: Op, program: Program) -> bool:
    return op.op == "max_pool2d" and any(step != 1 for step in op.attrs["dilation"])


def _is_masked(op: Op, program: Program) -> bool:
    return op.op == "softmax" and len(op.inputs) > 1


def _is_shifted(op: Op, program: Program) -> bool:
    y = program.values[op.output]
    return op.op == "softmax" and y.zero_point + qnn_offset(y) != 0


_RULES: tuple[tuple[Callable[[Op, Program], bool], str], ...] = (
    (
        _has_zero_points,
        "HTP takes weights with a scale a channel only where their zero points are 0. Remedy: "
        "quantizer=symmetric, or granularity=per_tensor",
    ),
    (_is_dilated_pool, "HTP has no max pool with dilation. Remedy: a network without it"),
    (_is_masked, "HTP has no softmax with a mask in integers. Remedy: leave the mask out of the network"),
    (
        _is_shifted,
        "HTP's softmax gives levels from 0 on, and the program's zero point is another. Remedy: "
        "quantizer=symmetric, or calibration that starts at 0",
    ),
)
