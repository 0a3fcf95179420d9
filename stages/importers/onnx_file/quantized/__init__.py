"""Quantized ONNX graphs as integer programs: what lies between QuantizeLinear and DequantizeLinear.

A QOperator node, as QLinearConv, is its QDQ form written as one node, and is taken apart first
(`decompose`). Then each tensor is one of a few things (`states`): levels, the reals that levels stand for,
a constant, or a result that waits to be quantized; QuantizeLinear makes an operator of the last.
So the program has the file's own levels, scales and zero points, and rounds where the file rounds: in
float32, half to even, as onnxruntime's kernels do.
"""

from stages.importers.onnx_file.quantized.graph import program_of as program_of
