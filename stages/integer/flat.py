"""Many small tensors as one array a dtype, since a file's header takes some 90 bytes for each array.

Operators whose tensors have the same names and dtypes share a layout, ``{name: dtype, …}``; of each operator
remain its layout's index and the shapes. An array holds its tensors one after the other, in the order of
operators, and within an operator in that of its layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Layout = Mapping[str, str]
Tensors = Mapping[str, NDArray[Any]]


def flatten(
    operators: Sequence[Tensors],
) -> tuple[list[Layout], list[dict[str, Any]], dict[str, NDArray[Any]]]:
    """The layouts; for each operator ``{"layout": …, "shapes": […]}``, empty without tensors; the arrays."""
    layouts: list[Layout] = []
    fields: list[dict[str, Any]] = []
    parts: dict[str, list[NDArray[Any]]] = {}
    for tensors in operators:
        if not tensors:
            fields.append({})
            continue
        layout = {name: str(tensor.dtype) for name, tensor in tensors.items()}
        if layout not in layouts:
            layouts.append(layout)
        index = layouts.index(layout)
        names = list(layouts[index])
        for name in names:
            parts.setdefault(layout[name], []).append(tensors[name].ravel())
        fields.append({"layout": index, "shapes": [tensors[name].shape for name in names]})
    return layouts, fields, {dtype: np.concatenate(part) for dtype, part in parts.items()}


def unflatten(
    layouts: Sequence[Layout], fields: Sequence[Mapping[str, Any]], arrays: Tensors
) -> list[dict[str, NDArray[Any]]]:
    """The operators' tensors, views of `arrays`. Raises ValueError where the arrays hold less or more."""
    if unnamed := arrays.keys() - {dtype for layout in layouts for dtype in layout.values()}:
        raise ValueError(f"the file holds {', '.join(sorted(unnamed))} numbers, which no operator has")
    taken = dict.fromkeys(arrays, 0)
    operators = []
    for field in fields:
        tensors: dict[str, NDArray[Any]] = {}
        layout = layouts[field["layout"]] if "layout" in field else {}
        for (name, dtype), shape in zip(layout.items(), field.get("shapes", ()), strict=True):
            start, size = taken.get(dtype, 0), math.prod(shape)
            part = arrays.get(dtype, np.empty(0))[start : start + size]
            if part.size != size:
                raise ValueError(_mismatch(f"tensor '{name}' {tuple(shape)} goes beyond the file's", dtype))
            tensors[name], taken[dtype] = part.reshape(shape), start + size
        operators.append(tensors)
    for dtype, count in taken.items():
        if count != arrays[dtype].size:
            raise ValueError(_mismatch(f"{arrays[dtype].size - count} numbers too many among the", dtype))
    return operators


def _mismatch(problem: str, dtype: str) -> str:
    return f"{problem} {dtype} numbers: a file is damaged, or of another program"
