"""Quantization: the stages that the pipeline runs, and the mathematics beneath them."""
