"""torchao's PT2E quantization for x86 with torch's inductor, freezing on; and what its observers cost."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from stages.benchmarking.competitor import Case
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class TorchaoInductor:
    """Prepared, calibrated, converted, and compiled for the case's shape; needs a C++ compiler."""

    packages: ClassVar[tuple[str, ...]] = ("torchao",)
    held: ClassVar[bool] = True

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Takes a minute or more: the inductor compiles every fused loop."""
        import torch._inductor.config as inductor
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        inductor.freezing = True
        x = case.x.contiguous(memory_format=torch.channels_last)
        prepared = observed(case, _x86_quantizer())
        with torch.no_grad():
            for batch in case.calibration:
                prepared(batch)
            compiled: Any = torch.compile(convert_pt2e(prepared), dynamic=False)

        def step() -> Any:
            with torch.no_grad():
                return compiled(x)

        return step


@dataclass(frozen=True, kw_only=True)
class TorchaoCalibrating:
    """Its prepared network over the calibration batches, and the conversion that reads the observers."""

    packages: ClassVar[tuple[str, ...]] = ("torchao",)
    held: ClassVar[bool] = True

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Preparing anew belongs to the work: observers keep what they have seen."""
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        exported = observed(case, _x86_quantizer())

        def step() -> None:
            import copy

            prepared = copy.deepcopy(exported)
            with torch.no_grad():
                for batch in case.calibration:
                    prepared(batch)
                convert_pt2e(prepared)

        return step


def observed(case: Case, quantizer: Any) -> Any:
    """The module exported with an open batch dimension, with the observers that a PT2E quantizer asks for."""
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        example = next(iter(case.calibration))
        batch = torch.export.Dim("batch", min=1)
        exported = torch.export.export(case.module, (example,), dynamic_shapes=({0: batch},)).module()
        return prepare_pt2e(exported, quantizer)


def _x86_quantizer() -> Any:
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    quantizer = X86InductorQuantizer()
    quantizer.set_global(get_default_x86_inductor_quantization_config())
    return quantizer
