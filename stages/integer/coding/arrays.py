"""The arrays of a program that are no coded weights, as bytes: those of a dtype together, highest bytes last.

Biases need some 16 of their 32 bits: bytes of equal place lie side by side, so that those that say nothing
deflate to nothing. An array of equal elements is stored as one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.limits import MAX_ELEMENTS

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64", "bool")

ArrayForm = tuple[str, tuple[int, ...], bool]
"""Dtype, shape, and whether one element stands for all."""


def form_of(array: NDArray[Any]) -> ArrayForm:
    """How an array is stored. Raises ValueError for a dtype that a coded file does not hold."""
    if str(array.dtype) not in DTYPES:
        raise ValueError(f"numbers of {array.dtype}: must be one of {', '.join(DTYPES)}")
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, -1)
    return str(array.dtype), array.shape, array.size > 1 and bool((raw == raw[0]).all())


def to_bytes(arrays: Iterable[NDArray[Any]]) -> bytes:
    """The elements of arrays, in their order within each dtype."""
    parts: dict[str, list[NDArray[Any]]] = {}
    for array in arrays:
        dtype, _, constant = form_of(array)
        flat = np.ascontiguousarray(array).reshape(-1)
        parts.setdefault(dtype, []).append(flat[:1] if constant else flat)
    planes = []
    for dtype in DTYPES:
        if dtype in parts:
            elements = np.concatenate(parts[dtype])
            own = elements.astype(elements.dtype.newbyteorder("<")).view(np.uint8)
            planes.append(own.reshape(elements.size, -1).T.tobytes())
    return b"".join(planes)


def weight_checksum(weight: NDArray[Any]) -> int:
    """16 bits that tell a weight from another, its dtype and shape with it."""
    form = f"{weight.dtype}{weight.shape}".encode()
    return zlib.crc32(weight.tobytes(), zlib.crc32(form)) & 0xFFFF


def check_form(form: Sequence[Any]) -> ArrayForm:
    """A form of JSON. Raises ValueError where it is none, or the array would be out of all proportion."""
    dtype, shape, constant = form
    if dtype not in DTYPES or not isinstance(constant, bool | int):
        raise ValueError(f"an array of form {form!r}: must be [dtype, shape, constant]")
    if not all(isinstance(n, int) and n >= 0 for n in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"an array of shape {shape}: must have at most {MAX_ELEMENTS} elements")
    return dtype, tuple(shape), bool(constant)


def from_bytes(data: bytes, forms: Sequence[ArrayForm]) -> list[NDArray[Any]]:
    """The arrays. Raises ValueError where the bytes are fewer or more."""
    counts = [min(math.prod(shape), 1) if constant else math.prod(shape) for _, shape, constant in forms]
    found: list[NDArray[Any]] = [np.empty(0)] * len(forms)
    start = 0
    for dtype in DTYPES:
        own = [index for index, form in enumerate(forms) if form[0] == dtype]
        width, count = np.dtype(dtype).itemsize, sum(counts[index] for index in own)
        raw = data[start : start + width * count]
        if len(raw) < width * count:
            raise ValueError(f"the file holds fewer numbers of {dtype} than its arrays have: it is damaged")
        start += width * count
        planes = np.frombuffer(raw, np.uint8).reshape(width, count)
        if dtype == "bool" and raw.strip(b"\0\1"):
            raise ValueError("a bool that is neither 0 nor 1: the file is damaged")
        elements = (
            np.ascontiguousarray(planes.T).reshape(-1).view(np.dtype(dtype).newbyteorder("<")).astype(dtype)
        )
        place = 0
        for index in own:
            _, shape, constant = forms[index]
            part = elements[place : place + counts[index]]
            place += counts[index]
            found[index] = np.full(shape, part[0]) if constant and part.size else part.reshape(shape)
    if start != len(data):
        raise ValueError(f"{len(data) - start} bytes more than the arrays have: the file is damaged")
    return found
