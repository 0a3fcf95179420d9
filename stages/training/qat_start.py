"""What quantized training starts from: the float network's tensors, and checks of what was calibrated."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.graph.fold import fold_batch_norm
from stages.graph.ir import Graph
from stages.graph.schemes import Schemes
from stages.quant.quantizers.base import untrainable
from stages.training.qat_layer import batches_key


def tensors_of(graph: Graph) -> dict[str, Tensor]:
    """What training moves: parameters, frozen ones without gradient, and statistics of BatchNorm as buffers.

    Layers that share a parameter in the float network share it here. A pruned one keeps its zeros: no
    gradient reaches them, and decay and momentum of 0 are 0.
    """
    tensors: dict[str, Tensor] = {}
    for node in graph.nodes:
        for role, key in node.params.items():
            statistic = role in ("bn_mean", "bn_var")
            if key in tensors:
                continue
            tensors[key] = tensor = graph.params[key].clone()
            if not statistic:
                tensors[key] = nn.Parameter(tensor, requires_grad=key not in graph.frozen)
                if (mask := graph.mask(key)) is not None and tensors[key].requires_grad:
                    tensors[key].register_hook(partial(_masked, mask))  # type: ignore[no-untyped-call]
        if "bn_mean" in node.params:
            tensors.setdefault(batches_key(node), torch.tensor(node.attrs["bn_batches"]))
    return tensors


def _masked(mask: Tensor, gradient: Tensor) -> Tensor:
    return torch.where(mask.to(gradient.device), gradient, 0.0)


def check_same_network(graph: Graph, calibrated: Graph) -> None:
    """Raise `PipelineError` unless `calibrated` is the folded `graph`."""
    folded = fold_batch_norm(graph)
    changed = [
        key
        for key, tensor in calibrated.params.items()
        if key not in folded.params or not torch.equal(tensor, folded.params[key])
    ]
    if folded.nodes != calibrated.nodes or changed:
        where = f", at {', '.join(changed[:3])}" if changed else ""
        raise PipelineError(
            f"the calibrated network differs from the trained one{where}: fine-tuning would start from "
            "another network than the one that was calibrated. Remedy: leave out corrections that change "
            "weights where training follows."
        )


def trainable(schemes: Schemes) -> Schemes:
    """Raise `PipelineError` for a quantizer that looks at a whole weight instead of rounding values."""
    for name, quantizer in schemes.weights.items():
        if untrainable(quantizer):
            raise PipelineError(
                f"'{name}': {type(quantizer).__name__} chooses levels for a whole weight, which has no "
                "gradient. Remedy: quantizer=symmetric, or training=post_training"
            )
    return schemes
