"""Casts inside a network whose parameters were cast to float32: they cast to float32 too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_CASTS = frozenset({Tensor.double, Tensor.half, Tensor.bfloat16})


class Float32Casts(TorchFunctionMode):
    """While it is on, ``x.half()``, ``x.to(torch.float64)`` and ``dtype=torch.bfloat16`` mean float32."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch with float32 in the place of every other float type."""
        if function in _CASTS:
            return args[0].float()
        own = {name: _float32(value) for name, value in (kwargs or {}).items()}
        return function(*map(_float32, args), **own)


def _float32(argument: Any) -> Any:
    other = isinstance(argument, torch.dtype) and argument.is_floating_point
    return torch.float32 if other else argument
