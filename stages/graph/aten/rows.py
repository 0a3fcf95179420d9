"""Sequences (C, L) as images (C, 1, L): what is one-dimensional runs on two-dimensional operators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stages.graph.aten.call import Call
from stages.graph.ir import Node


def as_image(call: Call, *nodes: Node) -> tuple[Node, ...]:
    """A call over (C, L) as a chain over (C, 1, L), with reshapes before and after it.

    Where the value is itself an image reshaped, the chain reads that image: a BatchNorm then stands directly
    behind its convolution.

    Args:
        call: over a value (C, L).
        nodes: what it becomes over the image; all but the last with their shapes.

    Raises:
        ValueError: the value has other than two dimensions.
    """
    shape = call.input_shape()
    if len(shape) != 2:
        raise ValueError(
            f"input of one sample has shape {shape}; only (channels, length) has an integer form"
        )
    image = (shape[0], 1, shape[1])
    back = Node(name="", op="reshape", attrs={"shape": call.shape})
    chain = [*nodes[:-1], replace(nodes[-1], shape=(call.shape[0], 1, call.shape[1]))]
    source = call.nodes[call.value()]
    if source.op == "reshape" and call.nodes[source.inputs[0]].shape == image:
        return replace(chain[0], inputs=source.inputs), *chain[1:], back
    to_image = Node(name="", op="reshape", inputs=(source.name,), attrs={"shape": image}, shape=image)
    return to_image, *(replace(node, inputs=()) for node in chain), back


def row(value: Any, height: int) -> tuple[int, int]:
    """An int, or a list of one, as a pair (height, width)."""
    return height, int(value[0] if isinstance(value, tuple | list) else value)
