"""Networks of several inputs, which one array holds one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError


class NamedInputs(nn.Module):
    """Gives a network its inputs by name: (N, total) is cut in their order, (N, *shape) each.

    Args:
        network: called with the inputs by name.
        inputs: the shape of one sample of each.
    """

    def __init__(self, network: nn.Module, inputs: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.network = network
        self._inputs = dict(inputs)

    def forward(self, x: Tensor) -> Any:
        """What the network gives: float32 or int64 (N, …), as many numbers a sample as all inputs have."""
        parts = torch.split(x.flatten(1), [math.prod(shape) for shape in self._inputs.values()], 1)
        named = zip(self._inputs.items(), parts, strict=True)
        return self.network(**{name: part.reshape(len(x), *shape) for (name, shape), part in named})


def with_inputs(
    network: nn.Module, inputs: Mapping[str, tuple[int, ...]] | None, shape: tuple[int, ...]
) -> nn.Module:
    """The network, or one that cuts its inputs out of samples of `shape`.

    Raises:
        PipelineError: the inputs have more or fewer numbers than a sample, or one has none.
    """
    if not inputs:
        return network
    for name, own in inputs.items():
        if any(size < 1 for size in own):
            raise PipelineError(
                f"model.inputs.{name}={list(own)}: sizes must be at least 1. Remedy: the shape of one "
                "sample, without the batch"
            )
    total = sum(math.prod(own) for own in inputs.values())
    if total != math.prod(shape):
        listed = ", ".join(f"{name} {list(own)}" for name, own in inputs.items())
        raise PipelineError(
            f"model.inputs: {listed} are {total} numbers, and a sample of shape {list(shape)} has "
            f"{math.prod(shape)}.\nRemedy: an array in whose rows the inputs stand one after the other, in "
            "this order"
        )
    return NamedInputs(network, inputs)
