"""ONNX for TensorRT: explicit quantization, every value int8 with zero point 0."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stages.data.description import Description
from stages.exporters.exporter import check_installed, named, no_form
from stages.exporters.onnx_graph.files import check_batch, check_opset, save_model
from stages.integer.kernel import signature
from stages.integer.program import Program
from stages.quant.quantizers.base import WeightsAndActivations

SIGNED = "quantizer=symmetric quantizer.activation.signed=true"


@dataclass(frozen=True, kw_only=True)
class TensorRt:
    """Writes ``model.onnx``: `stages.exporters.onnx_graph.tensorrt` says how, ``tensorrt_rules`` what holds.

    TensorRT's int8 is signed and symmetric, so that unsigned levels 0..254, which ``quantizer=symmetric``
    gives behind a ReLU, have no form. They are refused rather than halved: the halved levels would be other
    integers than those that were calibrated, trained and measured. ``quantizer.activation.signed=true`` makes
    them 0..127 from the start, and the run says what that costs.

    Args:
        batch: samples a call; None leaves the number open, which needs an optimization profile.
        opset: of ONNX, 17 to 25.
        clip_narrow: bound levels at −127 where the program does, by a Clip before QuantizeLinear. Without it
            int8 saturates at −128, and nothing stands between a convolution and its QuantizeLinear.
    """

    name: ClassVar[str] = "tensorrt"
    requires: ClassVar[tuple[str, ...]] = ("onnx",)

    batch: int | None = None
    opset: int = 17
    clip_narrow: bool = False

    def __post_init__(self) -> None:
        check_batch(self.batch)
        check_opset(self.opset)

    def misfits(self, quantizer: WeightsAndActivations) -> Iterator[str]:
        """Schemes that give levels which int8 with zero point 0 does not hold, seen before a run."""
        import torch

        wide = quantizer.residual_bits or 0
        if wide > 8:
            yield f"quantizer.residual_bits={wide}: int8 holds no more than 8 bits. Remedy: 8 or null"
        low, high, nothing = (torch.tensor(end) for end in (-1.0, 3.0, 0.0))
        for path, weight in quantizer.of_weights():
            if int(weight.qparams(low, high).zero_point):
                yield (
                    f"quantizer.{path}: a zero point. Remedy: symmetric weights, as with quantizer=symmetric"
                )
        for path, activation in quantizer.of_activations():
            one_sided, grids = activation.qparams(nothing, high), []
            with suppress(ValueError):  # unsigned levels, of a symmetric grid
                grids.append(activation.qparams(low, high))
            if any(int(grid.zero_point) for grid in (one_sided, *grids)):
                yield f"quantizer.{path}: a zero point. Remedy: {SIGNED}"
            elif one_sided.quant_max > 127:
                levels = f"{one_sided.quant_min}..{one_sided.quant_max}"
                yield f"quantizer.{path}: levels {levels} behind a ReLU. Remedy: {SIGNED}"

    def refusals(self, program: Program) -> list[str]:
        """Operators and levels without a form; what else breaks a rule of TensorRT."""
        check_installed(self)
        from stages.exporters.onnx_graph.tensorrt import KNOWN, fits, program_to_tensorrt
        from stages.exporters.onnx_graph.tensorrt_rules import violations

        found = no_form(program, KNOWN, "TensorRT's int8")
        values = [value for value in program.values.values() if not fits(value)]
        if wide := [value.name for value in values if value.wide]:
            found.append(
                f"int8 holds no levels of more than 8 bits ({named(wide)}). Remedy: quantizer.residual_bits=8"
            )
        if off := [value.name for value in values if value.zero_point and not value.wide]:
            found.append(f"int8 is symmetric, and zero points are not 0 ({named(off)}). Remedy: {SIGNED}")
        if above := [v for v in values if not v.zero_point and not v.wide]:
            levels = f"{above[0].quant_min}..{above[0].quant_max}"
            names = named([value.name for value in above])
            found.append(f"int8 holds no levels {levels} ({names}). Remedy: {SIGNED}")
        layers = [op for op in program.ops if signature(op).accumulates]
        if off := [op.output for op in layers if op.tensors["weight_zero_point"].any()]:
            found.append(f"weights have zero points ({named(off)}). Remedy: quantizer=symmetric")
        if off := [op.output for op in layers if op.tensors["weight"].dtype.name != "int8"]:
            found.append(f"weights are unsigned ({named(off)}). Remedy: quantizer.weight.signed=true")
        return found or [str(one) for one in violations(program_to_tensorrt(program, opset=self.opset))]

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the file."""
        from stages.exporters.onnx_graph.tensorrt import program_to_tensorrt

        model = program_to_tensorrt(program, self.batch, clip_narrow=self.clip_narrow, opset=self.opset)
        return save_model(model, description, folder)


EXPORTER = TensorRt
