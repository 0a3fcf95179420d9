"""What becomes of a node: a module a family of operators, each with a table ``HANDLERS`` by type.

A handler takes what is known so far (`stages.importers.onnx_file.quantized.graph.Quantized`) and the node,
and gives what the node's results are, one state or a list of them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.importers.onnx_file.quantized.graph import Handler


@cache
def handlers() -> Mapping[str, Handler]:
    """By type of node, all that there are."""
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {name: handler for module in modules for name, handler in module.HANDLERS.items()}
