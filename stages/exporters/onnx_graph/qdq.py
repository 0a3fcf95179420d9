"""The integer program as ONNX: float operators between QuantizeLinear and DequantizeLinear (QDQ).

A value of the program is levels, uint8 (signed ones are stored 128 higher, see `storage_offset`: kernels want
one dtype on both sides; a residual stream of 16 bits is int16 or uint16). An operator that computes
dequantizes its inputs, computes in reals, quantizes, and clamps the levels to ``[act_min, act_max]`` where
that is narrower than uint8; ReLU and ReLU6 are such clamps. An operator that selects or moves works on the
levels. A runtime that knows the pattern runs it on integer kernels: onnxruntime's QLinearConv and its kin,
OpenVINO's int8 convolutions.

A residual is the one place where the pattern cannot say what the program says in every runtime. The program
rounds the sum once, ``y = rint((real(acc) + real(r)) / scale_y)``:

- ``exact`` writes just that. OpenVINO computes it with int8 kernels; onnxruntime's kernels end in levels, and
  it would run the convolution in float.
- ``requantized`` also rounds the layer's own result, to 8 bits over ``[min y − max r, max y − min r]``:
  beyond it the sum is clamped anyway. The additional error is at most half a step of it, that is, about
  ``(scale_y + scale_r) / 2``: one level of y where r's steps are not wider than y's.

Input and output of the graph are float32; its first node quantizes the input.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import onnx
from onnx import TensorProto, helper

from stages.exporters.onnx_graph.narrow import narrow_bits
from stages.exporters.onnx_graph.operators import OPERATORS
from stages.exporters.onnx_graph.writer import OPSET, Residual, Writer
from stages.integer.program import Op, Program, Value

METADATA = "quantization_pipeline"
"""The key of the file's metadata under which `stages.importers.onnx` finds what QDQ does not say."""


def program_to_onnx(
    program: Program,
    batch: int | None = None,
    *,
    residual: Residual = "requantized",
    trace: bool = False,
    opset: int = OPSET,
    narrow: bool = False,
) -> onnx.ModelProto:
    """Write `program` as an ONNX model from ``input`` to ``output``, both float32 with a batch dimension.

    Args:
        program: what to write.
        batch: samples; None leaves the number open.
        residual: how a sum with a layer's second input is written, see the module.
        trace: make the stored levels of every value, ``<name>/q``, outputs too.
        opset: 17 to 25.
        narrow: store weights of 4 bits and less as INT4 or UINT4, from opset 25 on those of 2 as INT2 or
            UINT2. Runtimes may have no kernels for such weights, and compute in float.
    """
    writer = Writer(program, residual, opset=opset, narrow_bits=narrow_bits(opset) if narrow else ())
    return model_of(writer, OPERATORS, batch, trace=trace)


def model_of(
    writer: Writer,
    operators: Mapping[str, Callable[[Writer, Op], None]],
    batch: int | None,
    *,
    trace: bool = False,
    domains: tuple[str, ...] = (),
) -> onnx.ModelProto:
    """The model of a whole program, each operator written by its entry of `operators`.

    Args:
        writer: an empty one.
        operators: by the program's operator.
        batch: samples; None leaves the number open.
        trace: make the stored levels of every value, ``<name>/q``, outputs too.
        domains: of operators beyond ONNX's own.
    """
    program = writer.program
    x, y = (program.values[name] for name in (program.input, program.output))

    def info(name: str, kind: int, value: Value) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ["N" if batch is None else batch, *value.shape])

    if x.counts:
        writer.node("Cast", ["input"], f"{x.name}/q", to=TensorProto.INT32)
    else:
        writer.quantize("input", x, x.quant_min, x.quant_max)
    for op in program.ops:
        operators[op.op](writer, op)
    writer.node("Identity", [writer.reals(y.name)], "output")
    outputs = [info("output", TensorProto.FLOAT, y)]
    if trace:
        outputs += [
            info(f"{name}/q", helper.np_dtype_to_tensor_dtype(writer.dtype(value)), value)
            for name, value in program.values.items()
        ]
    inputs = [info("input", TensorProto.FLOAT, x)]
    graph = helper.make_graph(writer.nodes, "program", inputs, outputs, list(writer.initializers.values()))
    opsets = [helper.make_opsetid("", writer.opset), *(helper.make_opsetid(name, 1) for name in domains)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="quantization-pipeline")
    model.ir_version = helper.find_min_ir_version_for(opsets[:1])
    helper.set_model_props(model, {METADATA: _beyond_qdq(program)})
    return model


def _beyond_qdq(program: Program) -> str:
    """What nodes do not say, for who reads it back: levels, rounding, and what float32 does not hold."""
    values = {n: (v.scale, v.zero_point, v.quant_min, v.quant_max) for n, v in program.values.items()}
    epsilons = {op.output: op.attrs["epsilon"] for op in program.ops if "epsilon" in op.attrs}
    multipliers = {
        op.output: [int(op.tensors[name][0]) for name in ("multiplier", "shift")]
        for op in program.ops
        if op.op in ("multiply", "matmul", "mean")  # whose factors beside the scales are float32 in the file
    }
    said = {"values": values, "epsilons": epsilons, "multipliers": multipliers}
    return json.dumps({"requantize": program.requantize, **said})
