"""Programs in few bytes: ``program.coded``, one file (`stages.integer.coding.container`).

Its fields are those of ``program.json`` as lists, without what a reader can form anew:

    [version, requantize, input, output, [dtype, shape, constant] of the scales,
     [[value, shape, zero point, quant_min, quant_max]],
     [[op, inputs, output, attrs, [[tensor, dtype, shape, constant]], weight]]]

Operators name values by their number in the list. A tensor whose dtype is null is derived from scales.
`weight` is −1 where there is none, the number of a coded weight, or −2 − n: that of operator n, before this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.integer.coding import huffman_weights, range_weights
from stages.integer.coding.arrays import ArrayForm, check_form, form_of, from_bytes, to_bytes
from stages.integer.coding.container import CodedParts, deflate, inflate, pack, unpack
from stages.integer.coding.derived import derived_tensors, same
from stages.integer.document import MALFORMED, reason, shared_weights, unusual_attrs, with_usual_attrs
from stages.integer.limits import MAX_OPERATORS
from stages.integer.program import FORMAT_VERSION, Op, Program, Value
from stages.integer.validate import validate

Coder = Literal["huffman", "range"]


@dataclass(frozen=True, kw_only=True)
class CodedLayer:
    """What a layer's weight takes in the file.

    Args:
        name: of the operator.
        size: elements.
        kept: those that are not 0.
        levels: different levels of these.
        gap_bits: of a gap before Huffman coding; 0 where all weights are stored.
        weight_bits: Huffman bits of a kept weight, padding with it.
        index_bits: Huffman bits of its place, likewise.
        file_bits: what the layer's weight takes in the file; None where the program is not saved coded.
    """

    name: str
    size: int
    kept: int
    levels: int
    gap_bits: int
    weight_bits: float
    index_bits: float
    file_bits: float | None = None


def encode_program(program: Program, coder: Coder) -> bytes:
    """The file. Raises ValueError for a program that is not valid, or a coder that is none."""
    if coder not in ("huffman", "range"):
        raise ValueError(f"coder={coder}: must be huffman or range")
    validate(program)
    numbers = {name: number for number, name in enumerate(program.values)}
    values = list(program.values.values())
    shared = shared_weights(program.ops)
    places = {op.output: index for index, op in enumerate(program.ops)}
    weights: list[tuple[NDArray[Any], int]] = []
    arrays: list[NDArray[Any]] = []
    ops: list[list[Any]] = []
    for op in program.ops:
        known = derived_tensors(op, program.values, op.tensors)
        forms: list[list[Any]] = []
        weight = -1
        for name, tensor in op.tensors.items():
            if name == "weight" and op.output in shared:
                weight = -2 - places[shared[op.output]]
                forms.append([name, None, [], False])
            elif name == "weight" and _is_coded(tensor):
                weight = len(weights)
                weights.append((tensor, _zero_of(op)))
                forms.append([name, None, [], False])
            elif name in known and same(known[name], tensor):
                forms.append([name, None, [], False])
            else:
                dtype, shape, constant = form_of(tensor)
                forms.append([name, dtype, shape, constant])
                arrays.append(tensor)
        inputs = [numbers[name] for name in op.inputs]
        ops.append([op.op, inputs, numbers[op.output], unusual_attrs(op), forms, weight])
    scales = np.array([value.scale for value in values], np.float64)
    short = bool((scales.astype(np.float32).astype(np.float64) == scales).all())
    arrays.append(scales.astype(np.float32) if short else scales)
    fields = [
        FORMAT_VERSION,
        program.requantize,
        numbers[program.input],
        numbers[program.output],
        form_of(arrays[-1]),
        [[v.name, v.shape, v.zero_point, v.quant_min, v.quant_max] for v in values],
        ops,
    ]
    rest = deflate(to_bytes(arrays))
    if coder == "huffman":
        side, stream, _ = huffman_weights.encode(weights)
        lanes = 0
    else:
        side, encoder = range_weights.encode(weights)
        lanes = encoder.lanes
        stream = encoder.finish(rest[: 2 * lanes].ljust(2 * lanes, b"\0"))
    document = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
    rest = rest[2 * lanes :]
    return pack(CodedParts(coder=coder, lanes=lanes, fields=document, side=side, stream=stream, rest=rest))


def decode_program(data: bytes) -> Program:
    """The program, to the bit. Raises ValueError where the file is damaged, or holds no valid program."""
    try:
        return _decoded(unpack(data))
    except KeyError as error:
        raise ValueError(reason(error)) from error
    except ValueError as error:
        raise ValueError(str(error)) from error  # of JSON too, in the same words
    except MALFORMED as error:
        raise ValueError(f"its fields are none of a program ({error}): the file is damaged") from error


def coded_layers(program: Program, data: bytes | None = None) -> tuple[CodedLayer, ...]:
    """What each weight takes as Deep Compression stores it, in execution order; shared ones once.

    Args:
        program: its weights.
        data: the coded file, for what they take in it; None where there is none.
    """
    shared = shared_weights(program.ops)
    own = [
        op
        for op in program.ops
        if _is_coded(op.tensors.get("weight", np.empty(0))) and op.output not in shared
    ]
    _, _, found = huffman_weights.encode([(op.tensors["weight"], _zero_of(op)) for op in own])
    layers = []
    in_file: list[float | None] = [None] * len(own)
    if data is not None:
        parts = unpack(data)
        in_file = [float(sparse.weight_bits + sparse.index_bits) for sparse in found]
        if parts.coder == "range":
            taken: list[float] = []
            range_weights.decode(parts.side, parts.stream, parts.lanes, len(own), taken)
            in_file = list(taken)
    for op, sparse, file_bits in zip(own, found, in_file, strict=True):
        weight = op.tensors["weight"]
        there = weight[weight != _zero_of(op)]
        count = max(len(there), 1)
        layers.append(
            CodedLayer(
                name=op.output,
                size=weight.size,
                kept=len(there),
                levels=len(np.unique(there)),
                gap_bits=sparse.bits,
                weight_bits=sparse.weight_bits / count,
                index_bits=sparse.index_bits / count,
                file_bits=file_bits,
            )
        )
    return tuple(layers)


def _decoded(parts: CodedParts) -> Program:
    fields = json.loads(parts.fields)
    version, requantize, first, last, of_scales, listed, operators = fields
    if version != FORMAT_VERSION:
        raise ValueError(
            f"format {version}, but this version reads format {FORMAT_VERSION}. Remedy: convert the model "
            "again, or use the release that wrote it"
        )
    if len(operators) > MAX_OPERATORS:
        raise ValueError(f"{len(operators)} operators: must be at most {MAX_OPERATORS}")
    stored_forms = (form[1:] for op in operators for form in op[4] if form[1] is not None)
    forms: list[ArrayForm] = [check_form(form) for form in stored_forms]
    forms.append(check_form(of_scales))
    count = sum(op[5] >= 0 for op in operators)
    if parts.coder == "huffman":
        weights, payload = huffman_weights.decode(parts.side, parts.stream, count), b""
    else:
        weights, payload = range_weights.decode(parts.side, parts.stream, parts.lanes, count)
    rest = payload + parts.rest
    arrays = from_bytes(inflate(rest, padded=not parts.rest), _bounded(forms))
    names = [value[0] for value in listed]
    scales = arrays.pop().astype(np.float64).ravel().tolist()
    values = {
        name: Value(
            name=name, shape=tuple(shape), scale=scale, zero_point=zero, quant_min=low, quant_max=high
        )
        for (name, shape, zero, low, high), scale in zip(listed, scales, strict=True)
    }
    if len(values) != len(names):
        raise ValueError("two values of one name: the file is damaged")
    ops: list[Op] = []
    remaining = iter(arrays)
    for kind, inputs, output, attrs, own_forms, weight in operators:
        op = Op(op=kind, inputs=tuple(names[_index(i)] for i in inputs), output=names[_index(output)])
        op = with_usual_attrs(op, attrs)
        stored = {name: next(remaining) for name, dtype, *_ in own_forms if dtype is not None}
        if weight != -1:
            stored["weight"] = weights[weight] if weight >= 0 else ops[_index(-2 - weight)].tensors["weight"]
        derived = derived_tensors(op, values, stored)
        tensors = {name: stored[name] if name in stored else derived[name] for name, *_ in own_forms}
        ops.append(replace(op, tensors=tensors))
    program = Program(
        values=values,
        ops=tuple(ops),
        input=names[_index(first)],
        output=names[_index(last)],
        requantize=requantize,
    )
    validate(program)
    return program


def _bounded(forms: list[ArrayForm]) -> list[ArrayForm]:
    """The forms, if arrays of one element for all do not add up to more than fits."""
    total = sum(int(np.prod(shape, dtype=np.float64)) for _, shape, constant in forms if constant)
    if total > 2**26:
        raise ValueError(f"arrays of {total} equal elements: the file is damaged")
    return forms


def _index(number: Any) -> int:
    """A number that counts. Raises ValueError for a negative one, which Python would count from the end."""
    if not isinstance(number, int) or number < 0:
        raise ValueError(f"number {number!r}: must be 0 or more")
    return number


def _is_coded(weight: NDArray[Any]) -> bool:
    return weight.dtype in (np.int8, np.uint8) and 2 <= weight.ndim <= 8 and weight.size > 0


def _zero_of(op: Op) -> int:
    """The level of real zero; where channels have different ones, the most frequent."""
    zero = op.tensors.get("weight_zero_point", np.zeros(1, np.int32))
    found, counts = np.unique(zero, return_counts=True)
    level = int(found[counts.argmax()])
    limits = np.iinfo(op.tensors["weight"].dtype)
    return min(max(level, int(limits.min)), int(limits.max))
