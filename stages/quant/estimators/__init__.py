"""Backward passes of fake quantization, one a file, each after its paper."""
