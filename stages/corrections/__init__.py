"""Corrections: better parameters for a network that is quantized without training or labels."""
