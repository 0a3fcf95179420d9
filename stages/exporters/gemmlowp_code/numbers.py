"""The program's numbers for an engine of one's own: ``model.json``, and ``model.bin`` with the tensors.

Levels are uint8, but for wide ones, which are int32; a signed program's are 128 higher. Each value's
``offset`` is minus its zero point. Tensors lie in ``model.bin`` row-major, little-endian, at multiples of 4
bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.data.description import Description
from stages.exporters.gemmlowp_code.layers import LAYERS, Gemm
from stages.integer.program import Op, Program, Value
from stages.integer.unsigned import OFFSET

VERSION = 1
ALIGNMENT = 4

UNUSED = frozenset({"ratio", "residual_ratio"})
"""The ratios of another arithmetic."""


def program_to_numbers(
    signed: Program, program: Program, description: Description | None
) -> tuple[str, bytes]:
    """JSON and tensors of a `program` of unsigned levels, which was `signed` before."""
    data = bytearray()
    document = {
        "format": "gemmlowp",
        "version": VERSION,
        "arithmetic": program.requantize,
        "input": program.input,
        "output": program.output,
        "values": [_value(value, signed.values[name]) for name, value in program.values.items()],
        "operators": [_operator(op, program, data) for op in program.ops],
        "description": None if description is None else asdict(description),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n", bytes(data)


def _value(value: Value, before: Value) -> dict[str, Any]:
    return {
        **asdict(value),
        "dtype": str(value.dtype),
        "offset": -value.zero_point,
        "added": OFFSET if before.dtype == np.int8 else 0,
    }


def _operator(op: Op, program: Program, data: bytearray) -> dict[str, Any]:
    tensors = {name: tensor for name, tensor in op.tensors.items() if name not in UNUSED}
    document: dict[str, Any] = {
        "op": op.op,
        "inputs": op.inputs,
        "output": op.output,
        "attrs": dict(op.attrs),
    }
    if op.op in LAYERS:
        gemm = Gemm.of(op, program)
        weight, offsets = gemm.weight.reshape(tensors["weight"].shape), gemm.lhs_offset
        tensors |= {"weight": weight, "weight_zero_point": -offsets}
        document["gemm"] = {
            "rows": gemm.rows,
            "depth": gemm.depth,
            "groups": gemm.groups,
            "lhs_offset": offsets.tolist(),
            "rhs_offset": gemm.rhs_offset,
            "result_offset_after_shift": program.values[op.output].zero_point,
            "result_fixedpoint_multiplier": tensors["multiplier"].tolist(),
            "result_exponent": tensors["shift"].tolist(),
            "output_pipeline": gemm.in_pipeline,
        }
    document["tensors"] = {name: _tensor(tensor, data) for name, tensor in tensors.items()}
    return document


def _tensor(tensor: NDArray[Any], data: bytearray) -> dict[str, Any]:
    data.extend(bytes(-len(data) % ALIGNMENT))
    start = len(data)
    data.extend(np.ascontiguousarray(tensor, tensor.dtype.newbyteorder("<")).tobytes())
    return {"dtype": str(tensor.dtype), "shape": tensor.shape, "offset": start}
