"""What layers share: exact sums of products through floating-point BLAS, then requantization.

Sums of integers are exact in float32 as long as no partial sum can reach 2^24, in whatever order BLAS forms
them; `product_bounds` proves that from the weights, and float64 (2^53) serves the layers that exceed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.bounds import FLOAT32_EXACT, accumulator_bounds, product_bounds
from stages.integer.fixed_point import INT32_MAX
from stages.integer.program import Integers, Op, Program
from stages.integer.requantizer import finisher, rescaler, terms_of

BLOCK_BYTES = 2 << 20
"""Temporaries of one block of samples: about what a core's cache holds."""


def exact_float(op: Op, program: Program) -> type[np.float32] | type[np.float64]:
    """The float type in which the operator's sums of products are exact.

    Raises:
        ValueError: a sum that int32 does not hold.
    """
    bound = int(accumulator_bounds(op, program).max())
    if bound > INT32_MAX:
        raise ValueError(
            f"'{op.output}' ({op.op}): an accumulator can reach {bound}, beyond int32's {INT32_MAX}"
        )
    return np.float32 if int(product_bounds(op, program).max()) < FLOAT32_EXACT else np.float64


def blocks(samples: int, bytes_each: int) -> Iterator[slice]:
    """The batch dimension in slices whose temporaries stay in cache."""
    size = max(1, BLOCK_BYTES // bytes_each)
    return (slice(start, min(start + size, samples)) for start in range(0, samples, size))


def layer_output(op: Op, program: Program) -> Callable[..., Integers]:
    """From sums of products to levels: bias, rescale, residual, last rounding and clamp.

    Returns:
        A function from float sums (O, L), exact integers, and the residual's levels (O, L) if there is one,
        to the output's levels (O, L). Sums of groups (G·O, L) are rescaled each by its ratio, and added.
    """
    bias = op.tensors["bias"].reshape(-1, 1)
    rescale, finish = rescaler(op, program), finisher(op, program)
    added: Callable[[Integers], NDArray[Any]] | None = None
    if len(op.inputs) == 2:
        added = terms_of(op, program, program.values[op.inputs[1]], prefix="residual_")

    def output(sums: NDArray[Any], residual: Integers | None = None) -> Integers:
        accumulators = sums.astype(np.int32)
        accumulators[: len(bias)] += bias
        terms = rescale(accumulators)
        if len(terms) > len(bias):
            groups = terms.reshape(-1, len(bias), terms.shape[1])
            terms = groups[0]
            for others in groups[1:]:  # in that order: numpy's own sum of a single column has another
                terms += others
        if added is not None and residual is not None:
            terms += added(residual)
        return finish(terms)

    return output


def real_weight(op: Op, program: Program) -> NDArray[np.float64]:
    """A float layer's weight, ``w · s_x / s_y``: sums of its products with ``qx − zx`` are in steps of y.

    In float64, so that the order in which a library forms its sums changes no level.
    """
    ratio = program.values[op.inputs[0]].scale / program.values[op.output].scale
    weight: NDArray[np.float64] = op.tensors["weight"].astype(np.float64) * ratio
    return weight


def real_output(op: Op, program: Program) -> Callable[..., Integers]:
    """As `layer_output`, for a float layer: its sums are in steps of the output, but not whole."""
    step = program.values[op.output].scale
    bias = (op.tensors["bias"].astype(np.float64) / step).reshape(-1, 1)
    finish = finisher(op, program)
    r = program.values[op.inputs[1]] if len(op.inputs) == 2 else None

    def output(sums: NDArray[Any], residual: Integers | None = None) -> Integers:
        terms = sums + bias
        if r is not None and residual is not None:
            terms += (residual.astype(np.int32) - r.zero_point) * (r.scale / step)
        return finish(terms)

    return output
