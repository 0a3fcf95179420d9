"""The float network as teacher of another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Graph


def teacher_of(model: Graph, device: str) -> Callable[[Tensor], Tensor]:
    """The float network, x to outputs, float32; in the precision in which it costs least.

    In bfloat16 where the CPU multiplies it: its probabilities are a target of training, of which three digits
    are plenty, and it is a fifth of a step's cost in float32.
    """
    graph = fuse(fold_batch_norm(model))
    graph = graph.with_params({key: t.to(device) for key, t in graph.params.items()})
    brief = torch.autocast("cpu", torch.bfloat16, enabled=device == "cpu" and _multiplies_bfloat16())

    def logits(x: Tensor) -> Tensor:
        with brief:
            return execute(graph, x).float()

    return logits


def _multiplies_bfloat16() -> bool:
    known = getattr(torch.cpu, "get_capabilities", None)
    if known is None:  # torch 2.8 and 2.9
        return bool(torch.cpu._is_avx512_bf16_supported())
    return bool(known().get("avx512_bf16", False))
