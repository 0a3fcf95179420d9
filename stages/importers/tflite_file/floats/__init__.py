"""Float TFLite graphs as networks to quantize: their operators as those of ONNX, which torch has here."""
