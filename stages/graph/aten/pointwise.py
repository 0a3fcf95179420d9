"""Clamps (ReLU and its kin), and calls that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from stages.graph.aten.call import Call, Param, Ref, Translation
from stages.graph.aten.functions import table
from stages.graph.aten.refusal import RefusalError
from stages.graph.ir import Node


def _clamp_node(call: Call, low: float | None, high: float | None) -> Node:
    """A clamp between levels; where its bounds leave out 0, which stays a level, a table."""
    if (low is not None and low > 0) or (high is not None and high < 0):
        return table(call, "clamp", low, high)
    return Node(name="", op="clamp", inputs=(call.value(),), clamp_min=low, clamp_max=high)


def _relu(call: Call) -> Node:
    return _clamp_node(call, 0.0, None)


def _relu6(call: Call) -> Node:
    return _clamp_node(call, 0.0, 6.0)


def _bound(value: Any) -> float | None:
    if isinstance(value, Param) and value.tensor.numel() == 1:
        return float(value.tensor)
    if isinstance(value, Ref | Param):
        raise ValueError("its bounds are tensors; use numbers, or torch.maximum and torch.minimum")
    return None if value is None else float(value)


def _hardtanh(call: Call) -> Node:
    return _clamp_node(call, _bound(call.arg(1, "min_val", -1.0)), _bound(call.arg(2, "max_val", 1.0)))


def _clamp(call: Call) -> Node:
    return _clamp_node(call, _bound(call.arg(1, "min")), _bound(call.arg(2, "max")))


def _clamp_min(call: Call) -> Node:
    return _clamp_node(call, _bound(call.arg(1, "min")), None)


def _clamp_max(call: Call) -> Node:
    return _clamp_node(call, None, _bound(call.arg(1, "max")))


def _dropout(function: str, call: Call) -> Node | str:
    p = float(call.arg(1, "p", 0.5))
    if p == 0.0:
        return call.value()
    if call.arg(2, "train", False):
        name, module = _WRITTEN[function]
        raise RefusalError(
            f"drops values in evaluation too: F.{name} is on unless it is told otherwise. Write "
            f"F.{name}(x, {p:g}, training=self.training), or nn.{module}({p:g})"
        )
    return Node(name="", op="dropout", inputs=(call.value(),), attrs={"function": function, "p": p})


def _identity(call: Call) -> str:
    return call.value()


_WRITTEN = {
    "dropout": ("dropout", "Dropout"),
    "feature_dropout": ("dropout2d", "Dropout2d"),
    "alpha_dropout": ("alpha_dropout", "AlphaDropout"),
    "feature_alpha_dropout": ("feature_alpha_dropout", "FeatureAlphaDropout"),
}
"""Functions of torch: (x, p, train) to x with a share p of its values, or of its channels, dropped; how a
network writes them, as functions and as modules."""

POINTWISE: Mapping[str, Translation] = {
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "clamp": _clamp,
    "clamp_min": _clamp_min,
    "clamp_max": _clamp_max,
    **{name: partial(_dropout, name) for name in _WRITTEN},
    "contiguous": _identity,
    "clone": _identity,
    "detach": _identity,
    "alias": _identity,
}
