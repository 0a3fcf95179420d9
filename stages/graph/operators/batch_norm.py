"""BatchNorm with moving statistics, which is folded into the layer before it (`stages.graph.fold`)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from stages.graph.operators.operator import Attributes, Operator, Parameters


def _value(attrs: Attributes, params: Parameters, x: Tensor) -> Tensor:
    mean, variance = params["running_mean"], params["running_var"]
    return F.batch_norm(
        x, mean, variance, params.get("weight"), params.get("bias"), training=False, eps=attrs["eps"]
    )


OPERATORS = (
    Operator(
        name="batch_norm",
        kind="normalizes",
        attributes="eps, momentum (in training; None: statistics are the mean of all batches), batches (seen "
        "so far); params weight, bias, running_mean, running_var, each (C,)",
        value=_value,
    ),
)
