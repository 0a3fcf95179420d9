"""Functions of elements: arithmetic, activation functions, comparisons, choices, casts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stages.importers.onnx_file.functions import reading
from stages.importers.onnx_file.functions.reading import NodeModule
from stages.importers.onnx_file.tensors import Array

Elements = Tensor | Array


def _both(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A function of two operands, either of which may be a constant."""

    def run(op: NodeModule, a: Elements, b: Elements) -> Tensor:
        like = a if isinstance(a, Tensor) else b
        assert_like = like if isinstance(like, Tensor) else None
        return function(_number_or_tensor(a, assert_like), _number_or_tensor(b, assert_like))

    return run


def _number_or_tensor(x: Elements, like: Tensor | None) -> Any:
    """A number where the constant is one, so that it is traced as such."""
    if isinstance(x, Tensor):
        return x
    return x.reshape(-1)[0].item() if x.size == 1 and x.ndim == 0 else reading.tensor(x, like)


def _one(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    return lambda op, x: function(x)


def _all(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A function of any number of operands."""
    return lambda op, *xs: reduce(function, (reading.tensor(x) for x in xs))


def _divide(a: Any, b: Any) -> Tensor:
    whole = all(
        not t.dtype.is_floating_point if isinstance(t, Tensor) else isinstance(t, int) for t in (a, b)
    )
    return torch.div(a, b, rounding_mode="trunc") if whole else a / b


def _clip(op: NodeModule, x: Tensor, low: Elements | None = None, high: Elements | None = None) -> Tensor:
    bounds = [op.attr("min"), op.attr("max")]
    for i, operand in enumerate((low, high)):
        if operand is not None:
            bounds[i] = reading.numbers(operand, ("min", "max")[i])[0]
    if bounds[0] == 0.0 and bounds[1] is None:
        return F.relu(x)
    return x if bounds == [None, None] else torch.clamp(x, bounds[0], bounds[1])


def _gelu(op: NodeModule, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=op.attr("approximate", "none"))


def _hard_sigmoid(op: NodeModule, x: Tensor) -> Tensor:
    alpha, beta = op.attr("alpha", 0.2), op.attr("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def _prelu(op: NodeModule, x: Tensor, slope: Tensor) -> Tensor:
    if slope.numel() == 1 or (
        x.ndim >= 2 and slope.shape[:1] == x.shape[1:2] and slope.numel() == x.shape[1]
    ):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


def _selu(op: NodeModule, x: Tensor) -> Tensor:
    alpha: float = op.attr("alpha", 1.6732632423543772)
    gamma: float = op.attr("gamma", 1.0507009873554805)
    return gamma * F.elu(x, alpha)


def _cast(op: NodeModule, x: Elements, like: Elements | None = None) -> Tensor:
    """Floats of any width are float32; a float as whole numbers is cut."""
    kinds = {1: torch.float32, 10: torch.float32, 11: torch.float32, 16: torch.float32, 9: torch.bool}
    kinds |= {6: torch.int32, 7: torch.int64, 2: torch.uint8, 3: torch.int8}
    x = reading.tensor(x)
    to = reading.tensor(like).dtype if like is not None else kinds.get(op.attr("to"))
    if to is None:
        raise ValueError(f"to={op.attr('to')}: must be a float, a whole number of 8, 32 or 64 bits, or bool")
    return x if x.dtype == to else x.to(to)


def _where(op: NodeModule, condition: Elements, a: Elements, b: Elements) -> Tensor:
    floats = [x for x in (a, b) if isinstance(x, Tensor)]
    like = floats[0] if floats else None
    first, second = (_number_or_tensor(x, like) for x in (a, b))
    chosen: Tensor = torch.where(reading.tensor(condition).bool(), first, second)
    return chosen


def _mod(a: Any, b: Any) -> Tensor:
    return torch.remainder(a, b)


def _round(x: Tensor) -> Tensor:
    return torch.round(x)


def _bias_gelu(op: NodeModule, x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias)


FUNCTIONS: Mapping[str, Any] = {
    "Add": _both(lambda a, b: a + b),
    "Sub": _both(lambda a, b: a - b),
    "Mul": _both(lambda a, b: a * b),
    "Div": _both(_divide),
    "Pow": _both(lambda a, b: a**b),
    "Mod": _both(_mod),
    "Equal": _both(lambda a, b: a == b),
    "Less": _both(lambda a, b: a < b),
    "LessOrEqual": _both(lambda a, b: a <= b),
    "Greater": _both(lambda a, b: a > b),
    "GreaterOrEqual": _both(lambda a, b: a >= b),
    "And": _both(torch.logical_and),
    "Or": _both(torch.logical_or),
    "Xor": _both(torch.logical_xor),
    "Max": _all(torch.maximum),
    "Min": _all(torch.minimum),
    "Sum": _all(torch.add),
    "Mean": lambda op, *xs: reduce(torch.add, xs) / len(xs),
    "Identity": _one(lambda x: x),
    "Not": _one(torch.logical_not),
    "Abs": _one(torch.abs),
    "Neg": _one(torch.neg),
    "Sign": _one(torch.sign),
    "Exp": _one(torch.exp),
    "Log": _one(torch.log),
    "Sqrt": _one(torch.sqrt),
    "Reciprocal": _one(torch.reciprocal),
    "Floor": _one(torch.floor),
    "Ceil": _one(torch.ceil),
    "Round": _one(_round),
    "Erf": _one(torch.erf),
    "Sin": _one(torch.sin),
    "Cos": _one(torch.cos),
    "Tan": _one(torch.tan),
    "Atan": _one(torch.atan),
    "Tanh": _one(torch.tanh),
    "Sigmoid": _one(torch.sigmoid),
    "Relu": _one(F.relu),
    "Softplus": _one(F.softplus),
    "Softsign": _one(F.softsign),
    "Mish": _one(F.mish),
    "HardSwish": _one(F.hardswish),
    "com.microsoft.QuickGelu": lambda op, x: x * torch.sigmoid(op.attr("alpha", 1.702) * x),
    "com.microsoft.Gelu": _gelu,
    "com.microsoft.BiasGelu": _bias_gelu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "LeakyRelu": lambda op, x: F.leaky_relu(x, op.attr("alpha", 0.01)),
    "Elu": lambda op, x: F.elu(x, op.attr("alpha", 1.0)),
    "Celu": lambda op, x: F.celu(x, op.attr("alpha", 1.0)),
    "Selu": _selu,
    "Swish": lambda op, x: (
        F.silu(x) if op.attr("alpha", 1.0) == 1.0 else x * torch.sigmoid(op.attr("alpha") * x)
    ),
    "ThresholdedRelu": lambda op, x: torch.where(x > op.attr("alpha", 1.0), x, 0.0),
    "PRelu": _prelu,
    "Clip": _clip,
    "Cast": _cast,
    "CastLike": _cast,
    "Where": _where,
    "IsNaN": _one(torch.isnan),
}
