"""Convolution and matrix product of integer programs by PyTorch's oneDNN operators."""
