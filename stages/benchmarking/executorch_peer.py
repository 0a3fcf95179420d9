"""ExecuTorch on its XNNPACK delegate: float, and quantized by torchao with XNNPACK's quantizer.

A release is built for one release of torch; another one may fail to load, and then says so.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from stages.benchmarking.competitor import Case
from stages.benchmarking.torchao_peer import observed
from stages.measuring.timing import Step


@dataclass(frozen=True, kw_only=True)
class ExecuTorchFloat:
    """The float network, lowered for the case's shape."""

    packages: ClassVar[tuple[str, ...]] = ("executorch",)
    extra: ClassVar[str] = "executorch"

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Export, lower and load."""
        return _step(case.module, case)


@dataclass(frozen=True, kw_only=True)
class ExecuTorchInt8:
    """int8 activations with a zero point, symmetric weights per channel, the same calibration batches."""

    packages: ClassVar[tuple[str, ...]] = ("executorch", "torchao")
    extra: ClassVar[str] = "executorch"

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Export, calibrate, convert, lower and load."""
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        quantizer = XNNPACKQuantizer()
        quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
        prepared = observed(case, quantizer)
        with torch.no_grad():
            for batch in case.calibration:
                prepared(batch)
        return _step(convert_pt2e(prepared), case)


def _step(module: Any, case: Case) -> Step:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
    from executorch.runtime import Runtime

    _unsafe_reset_threadpool(case.threads)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (case.x,))
        lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    file = lowered.buffer
    program = Runtime.get().load_program(file)
    method = program.load_method("forward")

    def step() -> Any:
        return method.execute([case.x])

    step.keeps = (file, program)  # type: ignore[attr-defined] # the method reads in both, and holds neither
    return step
