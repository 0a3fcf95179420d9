"""What the tensors of a file must be, before a network computes on them: plain numbers, and finite ones."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import PipelineError

PLAIN = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip
"""Kinds of number that a file may hold; which of them fits, its place in the network says."""


def check_kind(name: str, tensor: Tensor, file: str, *, dense: bool = False) -> None:
    """Raise `PipelineError` for a kind of tensor that no network computes on: no value is read.

    Args:
        name: of the tensor.
        tensor: of any kind.
        file: as ``model.weights=net.pt``, for messages.
        dense: whether sparse ones are refused too.
    """
    wrong = None
    if tensor.is_meta:
        wrong = "a meta tensor: a shape without values", "save the module after its weights were loaded"
    elif tensor.is_quantized:
        wrong = (
            f"quantized, {dtype_name(tensor)}",
            "give the checkpoint of the float network, before any quantization",
        )
    elif tensor.is_nested:
        wrong = "nested, of rows of unlike lengths", "save plain tensors"
    elif tensor.dtype not in PLAIN:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in PLAIN)
        wrong = (
            f"{dtype_name(tensor)}, which is none of {names}",
            "give the checkpoint of the float network, in float32, float16 or bfloat16",
        )
    elif dense and tensor.layout != torch.strided:
        wrong = "sparse", "save it dense, tensor.to_dense()"
    if wrong is not None:
        raise PipelineError(f"{file}: '{name}' is {wrong[0]}.\nRemedy: {wrong[1]}.")


def check_finite(name: str, tensor: Tensor, file: str) -> None:
    """Raise `PipelineError` where floats hold NaN or infinity."""
    if tensor.is_floating_point() and not (finite := torch.isfinite(tensor)).all():
        raise PipelineError(
            f"{file}: '{name}' holds NaN or infinity in {int((~finite).sum())} of {tensor.numel()} places.\n"
            "Remedy: the training that wrote it diverged; take an earlier checkpoint."
        )


def dtype_name(tensor: Tensor) -> str:
    """``float32`` for torch.float32."""
    return str(tensor.dtype).removeprefix("torch.")
