"""TFLite flatbuffers of integer programs: what `tflite`, and the backends `litert` and `tflm`, write."""
