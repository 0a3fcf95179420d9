"""What the exporters of ONNX files check alike, and how they write; imports onnx only when it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stages.data.description import Description
from stages.integer.program import Program

OLDEST, NEWEST = 17, 25
"""Opsets that can be written. DequantizeLinear along an axis needs 13, LayerNormalization 17."""

WIDE_SINCE = 21
"""The first opset whose QuantizeLinear gives 16 bits."""


def check_batch(batch: int | None) -> None:
    """Raise ValueError for a number of samples below 1; None is an open one."""
    if batch is not None and batch < 1:
        raise ValueError(f"batch={batch}: must be at least 1, or null to leave it open")


def check_opset(opset: int) -> None:
    """Raise ValueError for an opset that cannot be written."""
    if not OLDEST <= opset <= NEWEST:
        raise ValueError(
            f"opset={opset}: must be {OLDEST}..{NEWEST}. Remedy: 21, which onnxruntime and OpenVINO run; 17 "
            "for older ones"
        )


def no_wide_type(program: Program, exporter: str, opset: int) -> list[str]:
    """A refusal where `program` has values of 16 bits and `opset` no type for them."""
    wide = [name for name, value in program.values.items() if value.wide and not value.counts]
    if opset >= WIDE_SINCE or not wide:
        return []
    return [
        f"no type for levels of more than 8 bits ('{wide[0]}') before opset {WIDE_SINCE}. "
        f"Remedy: export.{exporter}.opset={WIDE_SINCE}, or quantizer.residual_bits=8"
    ]


def save_model(model: Any, description: Description | None, folder: Path) -> Path:
    """Write ``model.onnx`` into `folder`, with what `description` says as metadata; returns its path."""
    import onnx

    if description is not None:
        own = {entry.key: entry.value for entry in model.metadata_props}
        onnx.helper.set_model_props(model, own | description.metadata())
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"
