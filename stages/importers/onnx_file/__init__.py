"""ONNX files: reading them with care, float graphs as networks, quantized graphs as integer programs."""
