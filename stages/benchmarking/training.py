"""A training step: forward, backward and update; in float, and with simulated quantization.

All use cross-entropy against the same random labels and SGD with momentum, on the case's input.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.benchmarking.competitor import Case
from stages.measuring.timing import Step
from stages.quant.estimators.base import Estimator
from stages.quant.quantizers.base import WeightsAndActivations
from stages.training.qat_layer import Phase
from stages.training.qat_network import QatNetwork


@dataclass(frozen=True, kw_only=True)
class FloatStep:
    """The module as its author wrote it, BatchNorm in training mode."""

    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """In the layout in which convolution and BatchNorm are fastest on a CPU."""
        module: Any = copy.deepcopy(case.module).train()
        return _training(module.to(memory_format=torch.channels_last), case)


@dataclass(frozen=True, kw_only=True)
class QatStep:
    """The pipeline's network in quantization-aware training, BatchNorm corrected, ranges observed.

    Args:
        quantizer: the schemes; those that calibrated the case.
        estimator: the backward pass of rounding.
    """

    quantizer: WeightsAndActivations
    estimator: Estimator
    isolated: bool = False

    def prepare(self, case: Case) -> Step:
        """A step of the first phase, in which all that can move does: the most that a step costs."""
        network = QatNetwork(case.model.graph, case.quantized.quantized, self.quantizer, self.estimator)
        network.initialize(case.x)
        network.phase = Phase(quantize=True, observe=True, batch_statistics=True, draw=1)
        return _training(network.train(), case, network.penalty)


@dataclass(frozen=True, kw_only=True)
class TorchaoQatStep:
    """torchao's PT2E network, prepared for quantization-aware training on x86."""

    isolated: bool = True

    def prepare(self, case: Case) -> Step:
        """Export in training mode, insert fake quantization."""
        from torchao.quantization.pt2e import move_exported_model_to_train
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
        from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
            X86InductorQuantizer,
            get_default_x86_inductor_quantization_config,
        )

        module: Any = copy.deepcopy(case.module).train()
        module = module.to(memory_format=torch.channels_last)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exported = torch.export.export(module, (case.x,)).module()
            quantizer = X86InductorQuantizer()
            quantizer.set_global(get_default_x86_inductor_quantization_config(is_qat=True))
            prepared: Any = prepare_qat_pt2e(exported, quantizer)
            move_exported_model_to_train(prepared)
        return _training(prepared, case)


def _training(module: nn.Module, case: Case, penalty: Callable[[], Tensor] = lambda: torch.zeros(())) -> Step:
    x = case.x.contiguous(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(case.seed)
    labels = torch.randint(0, case.calibration.data.num_classes, (len(x),), generator=generator)
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)

    def step() -> None:
        torch.set_num_threads(case.threads)
        with torch.enable_grad():
            optimizer.zero_grad()
            loss: Any = F.cross_entropy(module(x), labels) + penalty()
            loss.backward()
            optimizer.step()

    return step
