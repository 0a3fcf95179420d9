"""Lowering: a quantized graph to an `stages.integer.program.Program`, node by node.

All that is computed here is ratios of scales, as the kernels define them: ``s_x s_w / s_y`` for a layer,
``s_i / s_y`` for each input of a sum or join, ``s_x / (s_y · count)`` for an average.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.errors import PipelineError
from stages.graph.ir import Node
from stages.graph.islands import is_island, lower_island
from stages.graph.operators.registry import is_opaque, operator
from stages.graph.quantized import QuantizedGraph
from stages.integer.profiles.adapt import to_tflm
from stages.integer.program import Op, Program, Requantize, Value


def lower(quantized: QuantizedGraph, requantize: Requantize) -> Program:
    """The integer program of a quantized network.

    Raises:
        PipelineError: a ratio of scales that no multiplier expresses, or a sum whose terms do not fit
            32 bits, naming the layer and the bound.
    """
    values = {node.name: value_of(quantized, node) for node in quantized.graph.nodes}
    ops = tuple(lower_node(quantized, node, values) for node in quantized.graph.nodes if node.op != "input")
    program = Program(
        values=values,
        ops=ops,
        input=quantized.graph.input.name,
        output=quantized.graph.output,
        requantize="fixed_point" if requantize == "tflm" else requantize,
    )
    return to_tflm(program) if requantize == "tflm" else program


def lower_node(quantized: QuantizedGraph, node: Node, values: Mapping[str, Value]) -> Op:
    """One node's operator, over the program's values by name."""
    own = lower_island if is_island(quantized, node) else operator(node).lower
    if own is None:
        raise PipelineError(f"'{node.name}': no program holds a {node.op}; fold it first")
    try:
        return own(quantized, node, values)
    except PipelineError:
        raise
    except ValueError as error:
        if is_opaque(node):  # a function that these scales leave no integers for
            return lower_island(quantized, node, values)
        raise PipelineError(f"'{node.name}': {error}") from error


def value_of(quantized: QuantizedGraph, node: Node) -> Value:
    """A node's value in the program."""
    qparams = quantized.qparams(node.name)
    return Value(
        name=node.name,
        shape=node.shape,
        scale=float(qparams.scale),
        zero_point=int(qparams.zero_point),
        quant_min=qparams.quant_min,
        quant_max=qparams.quant_max,
    )
