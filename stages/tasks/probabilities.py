"""Losses and divergences of outputs that are logits.

With teacher t, outputs z and temperature T, both divergences are ``T² · KL(p(t/T) ‖ p(z/T))`` (Hinton et al.
2015), p the softmax over classes or the sigmoid of each output.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def softmax_divergence(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over batch and places, shape (), of outputs (N, classes, …)."""
    target = F.log_softmax(teacher / temperature, dim=1)
    predicted = F.log_softmax(outputs / temperature, dim=1)
    places = outputs[:, 0].numel() // len(outputs)
    divergence = F.kl_div(predicted, target, reduction="batchmean", log_target=True)
    return temperature**2 * divergence / places


def sigmoid_divergence(outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean over all elements, shape ()."""
    z, t = outputs / temperature, teacher / temperature
    share = t.sigmoid()
    divergence = share * (F.logsigmoid(t) - F.logsigmoid(z)) + (1 - share) * (
        F.logsigmoid(-t) - F.logsigmoid(-z)
    )
    return temperature**2 * divergence.mean()


def binary_loss(outputs: Tensor, y: Tensor, label_smoothing: float) -> Tensor:
    """Mean binary cross-entropy over all elements; targets become ``y (1 − s) + s / 2``."""
    target = y.to(outputs.dtype).reshape(outputs.shape)
    return F.binary_cross_entropy_with_logits(outputs, target * (1 - label_smoothing) + label_smoothing / 2)
