"""ONNX graphs of integer programs: what `onnx_qdq` and its kin, and backends that read ONNX, write."""
