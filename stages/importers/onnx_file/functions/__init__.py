"""What ONNX's operators compute, in torch: a module a family, each with a table ``FUNCTIONS`` by type.

A function takes the node's module, for its attributes and its mode, and the operands: tensors, or arrays
where they are constants that are read as numbers; None for one that is left out. The definitions are those
of https://onnx.ai/onnx/operators, by the version that the file names.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

Function = Callable[..., Any]

FUNCTIONS: Mapping[str, Function] = {
    name: function
    for found in pkgutil.iter_modules(__path__)
    if found.name != "reading"
    for name, function in import_module(f"{__name__}.{found.name}").FUNCTIONS.items()
}
"""By type, all that is known."""
