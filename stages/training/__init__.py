"""Training: the loop in float, and with simulated quantization."""
