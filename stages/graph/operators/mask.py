"""Masks of attention: entries that the softmax which reads them leaves out.

``mask(x, keep)`` is x where `keep` is not 0, and `fill`, −50 or less, elsewhere. Fusion gives `keep` to the
softmax (`stages.graph.masks`), so that no program holds such numbers. A row of which nothing is kept has no
softmax; it is 0 then, as torch's attention defines.
"""

from __future__ import annotations

from torch import Tensor

from stages.graph.operators.operator import Attributes, Operator, Parameters


def _mask(attrs: Attributes, params: Parameters, x: Tensor, keep: Tensor) -> Tensor:
    return x.masked_fill(keep == 0, attrs["fill"])


OPERATORS = (
    Operator(
        name="mask",
        kind="computes",
        attributes="fill; a value and what is kept of it, whose shape broadcasts to the value's",
        value=_mask,
    ),
)
