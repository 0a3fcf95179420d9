"""Quantizers, calibrators and granularities: the mathematics of scale and zero point."""
