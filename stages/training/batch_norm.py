"""BatchNorm over a batch that ranks divide: every rank normalizes by the statistics of the whole batch.

Mean and variance are those of all ranks' samples, weighted by their number, as
``torch.nn.SyncBatchNorm`` has them on GPUs; this is for CPUs too, and for any call of
``torch.nn.functional.batch_norm``: torch's own modules, quantized layers, a user's code. With normalized x̂,
n values a channel in all ranks, and sums Σ over all of them::

    ∂L/∂x = γ/σ · (∂L/∂y − Σ ∂L/∂y / n − x̂ · Σ (x̂ · ∂L/∂y) / n)

where L is the loss of the whole batch, as of `stages.training.shares`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from pipeline.errors import PipelineError

Add = Callable[[Tensor], Tensor]
"""The sum over all ranks, in place."""


class SharedBatchNorm(TorchFunctionMode):
    """While entered, ``batch_norm`` in training takes the statistics of all ranks' samples.

    Args:
        add: sums a tensor over all ranks.
    """

    def __init__(self, add: Add) -> None:
        super().__init__()
        self._add = add

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of ``batch_norm`` where it computes statistics; call all else as it is."""
        if func is F.batch_norm:
            return self._batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        input: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
        mean, variance, count = self._statistics(input)
        if count < 2:
            raise PipelineError(
                "BatchNorm has no variance over a single value a channel. Remedy: a larger batch_size"
            )
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean), momentum)
                running_var.lerp_((variance * (count / (count - 1))).to(running_var), momentum)
        normalized: Tensor = _Normalized.apply(  # type: ignore[no-untyped-call]
            input, mean.float(), variance.float(), weight, bias, count, eps, self._add
        )
        return normalized

    @torch.no_grad()
    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Mean and variance of each channel, float64 (C,), over all ranks' values; how many a channel."""
        own = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x.float(), dim=_others(x), correction=0)
        mean, variance = mean.double(), variance.double()
        sums = torch.cat([mean * own, (variance + mean.square()) * own, mean.new_tensor([own])])
        mean, square = (self._add(sums)[:-1] / sums[-1]).chunk(2)
        return mean, (square - mean.square()).clamp_(min=0.0), int(sums[-1])


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        mean: Tensor,
        variance: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        count: int,
        eps: float,
        add: Add,
    ) -> Tensor:
        ctx.save_for_backward(x, mean, variance, weight)
        ctx.has_bias, ctx.count, ctx.eps, ctx.add = bias is not None, count, eps, add
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, variance, weight = ctx.saved_tensors
        kind, gradient = gradient.dtype, gradient.float()  # bfloat16 under autocast; sums need more
        dims = _others(x)
        inverse = torch.rsqrt(variance.double() + ctx.eps).float()
        normalized = (x - _by_channel(mean, x)).mul_(_by_channel(inverse, x))
        own_bias = gradient.sum(dims)
        own_weight = (gradient * normalized).sum(dims)
        means = ctx.add(torch.cat([own_bias, own_weight]).double()).div_(ctx.count).float()
        gain = inverse if weight is None else inverse * weight
        of_bias, of_weight = means.chunk(2)
        passed = gradient - _by_channel(of_bias, x)
        passed = passed.sub_(normalized.mul_(_by_channel(of_weight, x))).mul_(_by_channel(gain, x))
        return (
            passed.to(kind),
            None,
            None,
            None if weight is None else own_weight,
            own_bias if ctx.has_bias else None,
            None,
            None,
            None,
        )


def _others(x: Tensor) -> list[int]:
    """All dimensions but that of the channels."""
    return [dim for dim in range(x.ndim) if dim != 1]


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,) in a shape that broadcasts against x."""
    return values.reshape(-1, *[1] * (x.ndim - 2))
