"""Tokens as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping

from stages.graph.aten.call import Call, Translation, params
from stages.graph.ir import Node


def _embedding(call: Call) -> Node:
    table = params(table=call.parameter(0, "table"))
    return Node(name="", op="embedding", inputs=(call.value(1),), params=table)


EMBEDDINGS: Mapping[str, Translation] = {"embedding": _embedding}
