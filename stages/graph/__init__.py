"""Networks as a small graph: capture, BatchNorm folding, fusion, quantization, lowering to integers."""
