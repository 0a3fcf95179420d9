"""Tokens as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping

from stages.graph.aten.call import Call, Param, Translation, params
from stages.graph.ir import Node


def _embedding(call: Call) -> Node:
    table = call.args[0]
    if not isinstance(table, Param):
        raise ValueError("its table is computed; only a parameter can be quantized once")
    return Node(name="", op="embedding", inputs=(call.value(1),), params=params(table=table))


EMBEDDINGS: Mapping[str, Translation] = {"embedding": _embedding}
