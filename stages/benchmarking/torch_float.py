"""The float network in torch: what integers have to beat."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from stages.benchmarking.competitor import Case
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.measuring.timing import Step

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True, kw_only=True)
class Eager:
    """The module as its author wrote it.

    Args:
        memory_format: of activations and weights.
    """

    held: ClassVar[bool] = True

    memory_format: Literal["contiguous", "channels_last"] = "channels_last"
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """A forward pass in inference mode."""
        memory_format = MEMORY_FORMATS[self.memory_format]
        module = _in_format(case.module, memory_format)
        x = _images_in_format(case.x, memory_format)
        return _forward(module, x, case.threads)


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """``torch.compile`` with the inductor: BatchNorm folded and weights packed, which freezing allows."""

    held: ClassVar[bool] = True

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Compile for this shape; needs a C++ compiler."""
        import torch._inductor.config as inductor

        inductor.freezing = True
        module = torch.compile(_in_format(case.module, torch.channels_last), dynamic=False)
        x = _images_in_format(case.x, torch.channels_last)
        return _forward(module, x, case.threads)


@dataclass(frozen=True, kw_only=True)
class CalibrationForward:
    """The float forward pass over the calibration batches: the least that any calibration costs.

    Args:
        folded: run the folded, fused network instead of the module.
    """

    folded: bool = False
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """One pass over all batches."""
        graph = fuse(fold_batch_norm(case.model.graph))

        def step() -> None:
            torch.set_num_threads(case.threads)
            with torch.inference_mode():
                for x in case.calibration:
                    if self.folded:
                        execute(graph, x)
                    else:
                        case.module(x)

        return step


def _in_format(module: nn.Module, memory_format: torch.memory_format) -> nn.Module:
    """A copy: other competitors go on with the original."""
    converted: nn.Module = copy.deepcopy(module).to(memory_format=memory_format)  # type: ignore[call-overload]
    return converted


def _images_in_format(x: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """Images in a layout; what has other dimensions has but one."""
    return x.contiguous(memory_format=memory_format) if x.ndim == 4 else x


def _forward(module: Callable[..., Any], x: torch.Tensor, threads: int) -> Step:
    def step() -> torch.Tensor:
        torch.set_num_threads(threads)
        with torch.no_grad():  # inference_mode makes tensors that the inductor's guards do not take
            result: torch.Tensor = module(x)
        return result

    return step
