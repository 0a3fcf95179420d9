"""Names in a trace: of functions and modules."""

from __future__ import annotations

import torch


def base_name(fx_node: torch.fx.Node) -> str:
    """The function of ATen that a node of a trace calls, without overload; empty for what is no such call."""
    named = fx_node.op == "call_function" and str(fx_node.target).startswith("aten.")
    return str(fx_node.target).split(".")[1] if named else ""


def in_place(base: str) -> bool:
    """Whether a function changes its argument, by its name."""
    return base.endswith("_") and not base.endswith("__")


def pure(base: str) -> str:
    """The function that gives a new tensor, by the name of it or of the one that changes its argument."""
    return base.removesuffix("_") if in_place(base) else base


def module_path(fx_node: torch.fx.Node) -> str:
    """The path of the module whose call a node of a trace is; empty for the root."""
    stack = list(fx_node.meta.get("nn_module_stack", {}).values())
    path = str(stack[-1][0]) if stack else ""
    return "" if path.startswith("_empty_nn_module_stack") else path.removeprefix("L['self'].")
