"""Random networks brought to the state that training leaves: activations of about unit size.

With the statistics it is built with (mean 0, variance 1), BatchNorm leaves the outputs of a deep random
network to vanish or to explode; then no output can be compared, and float arithmetic may meet denormal
numbers, which are slow. So each gets the statistics of one batch, as in training (arXiv:1502.03167).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def settle_batch_norm(module: nn.Module, x: Tensor) -> None:
    """Set every BatchNorm's running statistics to those of `x`, (N, …) with N ≥ 2; modes stay."""
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        return
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = 1.0
        norm.train()
    try:
        with torch.no_grad():
            module(x)
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.train(training)
