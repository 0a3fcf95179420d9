"""Programs on disk: ``program.json`` for values and operators, ``tensors.safetensors`` for the rest.

    {"format": 3, "requantize": …, "input": …, "output": …,
     "values": {name: {"shape": […], "scale": …, "zero_point": …, "levels": [quant_min, quant_max]}},
     "layouts": [{tensor: dtype}],
     "ops": [{"op": …, "inputs": […], "output": …, "attrs": {…}, "layout": …, "shapes": [[…]],
              "packed": {"shape": […], "bits": …}, "weight_of": output}]}

Attributes that have their usual value (`stages.integer.document.USUAL`) are left out. Tensors lie in one
array a dtype (`stages.integer.flat`). A weight that needs fewer than 8 bits is packed
(`stages.integer.packing`), and
``weight.indices`` and ``weight.levels`` take its place; loading unpacks it. A weight that an operator before
has too, as layers that share one do, is stored there alone, and ``weight_of`` names that operator's output.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from stages.integer.document import (
    MALFORMED,
    reason,
    shared_weights,
    unusual_attrs,
    value_from_json,
    value_to_json,
    with_usual_attrs,
)
from stages.integer.flat import flatten, unflatten
from stages.integer.limits import MAX_OPERATORS
from stages.integer.packing import Packed, pack, unpack
from stages.integer.program import FORMAT_VERSION, Op, Program
from stages.integer.validate import validate


def save_program(program: Program, directory: Path) -> None:
    """Write the program's two files into `directory`. Raises ValueError for a program that is not valid."""
    document, tensors = program_bytes(program)
    (directory / "program.json").write_bytes(document)
    (directory / "tensors.safetensors").write_bytes(tensors)


def program_bytes(program: Program) -> tuple[bytes, bytes]:
    """What the two files hold. Raises ValueError for a program that is not valid."""
    validate(program)
    shared = shared_weights(program.ops)
    layouts, forms, arrays = flatten([_stored(op, op.output in shared) for op in program.ops])
    document = {
        "format": FORMAT_VERSION,
        "requantize": program.requantize,
        "input": program.input,
        "output": program.output,
        "values": {name: value_to_json(value) for name, value in program.values.items()},
        "layouts": layouts,
        "ops": [_op_to_json(op, shared) | form for op, form in zip(program.ops, forms, strict=True)],
    }
    return json.dumps(document, separators=(",", ":")).encode(), save(arrays)


def load_program(directory: Path) -> Program:
    """Read what `save_program` wrote, bit for bit.

    Raises:
        ValueError: a file is missing, damaged, of another version, or holds no valid program; names the file.
    """
    path = directory / "program.json"
    try:
        _check_regular(path)
        document = json.loads(path.read_text())
        version = document["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a readable integer program ({reason(error)}). Remedy: the program/ folder that a "
            "run left"
        ) from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format {version}, but this version reads format {FORMAT_VERSION}. "
            "Remedy: convert the model again, or use the release that wrote it."
        )
    arrays = _load_arrays(directory / "tensors.safetensors")
    try:
        if len(document["ops"]) > MAX_OPERATORS:
            raise ValueError(f"{len(document['ops'])} operators: must be at most {MAX_OPERATORS}")
        tensors = unflatten(document["layouts"], document["ops"], arrays)
        program = Program(
            values={name: value_from_json(name, fields) for name, fields in document["values"].items()},
            ops=_ops_from_json(document["ops"], tensors),
            input=document["input"],
            output=document["output"],
            requantize=document["requantize"],
        )
        validate(program)
    except KeyError as error:
        raise ValueError(f"{path}: {reason(error)}") from error
    except MALFORMED as error:
        raise ValueError(f"{path}: {reason(error)}") from error
    return program


def _check_regular(path: Path) -> None:
    """Raise OSError for a FIFO, which would be waited for, a device or a folder."""
    if path.exists() and not path.is_file():
        raise OSError("is no regular file")


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays by dtype."""
    try:
        _check_regular(path)
        loaded: dict[str, NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        # numpy lacks some of the format's dtypes, as bfloat16
        raise ValueError(f"{path}: not a readable safetensors file of numpy's dtypes ({error})") from error
    for name, array in loaded.items():
        if str(array.dtype) != name or array.ndim != 1:
            raise ValueError(f"{path}: '{name}' is {array.dtype} {array.shape}: must be a row of {name}")
    return loaded


def _op_to_json(op: Op, shared: Mapping[str, str]) -> dict[str, Any]:
    attrs = unusual_attrs(op)
    fields: dict[str, Any] = {"op": op.op, "inputs": op.inputs, "output": op.output, "attrs": attrs}
    if op.output in shared:
        fields["weight_of"] = shared[op.output]
    elif packed := _packed_weight(op):
        fields["packed"] = {"shape": packed.shape, "bits": packed.bits}
    return {name: value for name, value in fields.items() if value or name != "attrs"}


def _packed_weight(op: Op) -> Packed | None:
    return pack(op.tensors["weight"]) if "weight" in op.tensors else None


def _stored(op: Op, shares_weight: bool) -> dict[str, NDArray[Any]]:
    """The operator's tensors as the file holds them."""
    tensors = dict(op.tensors)
    if shares_weight:
        del tensors["weight"]
    elif packed := _packed_weight(op):
        del tensors["weight"]
        tensors |= {"weight.indices": packed.indices, "weight.levels": packed.levels}
    return tensors


def _unpacked(stored: Mapping[str, NDArray[Any]], fields: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The operator's tensors as kernels take them."""
    tensors = dict(stored)
    if form := fields.get("packed"):
        indices, levels = tensors.pop("weight.indices"), tensors.pop("weight.levels")
        tensors["weight"] = unpack(
            Packed(shape=tuple(form["shape"]), bits=form["bits"], indices=indices, levels=levels)
        )
    return tensors


def _ops_from_json(
    document: Iterable[Mapping[str, Any]], stored: Iterable[Mapping[str, NDArray[Any]]]
) -> tuple[Op, ...]:
    ops: list[Op] = []
    weights: dict[str, NDArray[Any]] = {}
    for fields, tensors in zip(document, stored, strict=True):
        own = dict(tensors)
        if owner := fields.get("weight_of"):
            if owner not in weights:
                raise ValueError(
                    f"'{fields['output']}': its weight is that of '{owner}', which is not before it"
                )
            own["weight"] = weights[owner]
        ops.append(_op_from_json(fields, own))
        if "weight" in ops[-1].tensors:
            weights[ops[-1].output] = ops[-1].tensors["weight"]
    return tuple(ops)


def _op_from_json(fields: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Op:
    op = Op(
        op=fields["op"],
        inputs=tuple(fields["inputs"]),
        output=fields["output"],
        tensors=_unpacked(tensors, fields),
    )
    return with_usual_attrs(op, fields.get("attrs", {}))
