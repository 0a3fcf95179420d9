"""Which node units of a model the simulator does not take, asked one by one: its own errors name none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx


def refused_units(model: onnx.ModelProto, load: Callable[[bytes], object]) -> list[str]:
    """The values, in order, of which `load` raises for a model of their own unit.

    Args:
        model: in QDQ form; levels are ``<name>/q``.
        load: makes a session.
    """
    extractor = onnx.utils.Extractor(onnx.shape_inference.infer_shapes(model))
    producers = {output: node for node in model.graph.node for output in node.output}
    refused = []
    for node in model.graph.node:
        levels = producers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if levels is None or "input" in levels.input:
            continue
        unit = extractor.extract_model(_levels_before(levels, producers), list(node.output))
        try:
            load(unit.SerializeToString())
        except Exception:  # onnxruntime's errors have no base of their own
            refused.append(node.output[0].removesuffix("/dq"))
    return refused


def _levels_before(node: onnx.NodeProto, producers: Mapping[str, onnx.NodeProto]) -> list[str]:
    """The levels that the reals of a QuantizeLinear are computed from."""
    found: dict[str, None] = {}
    left = list(node.input)
    while left:
        name = left.pop()
        producer = producers.get(name)
        if producer is not None and producer.op_type == "QuantizeLinear":
            found[name] = None
        elif producer is not None:
            left += producer.input
        elif name == "input":
            found[name] = None
    return list(found)
