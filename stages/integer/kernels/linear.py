"""linear: ``y = clamp(zy + rescale(Σ (qx−zx)(qw−zw) + bias [+ residual]))`` over (N, …, I)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from stages.integer.accumulate import exact_float, layer_output
from stages.integer.bounds import centred_weight
from stages.integer.kernel import Kernel
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Shape, Signature


def output_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """(…, O)."""
    weight = op.tensors["weight"].shape
    if len(weight) != 2 or weight[1:] != tuple(shapes[0][-1:]):
        raise ValueError(
            f"weight of shape {weight} for an input of shape {shapes[0]}: must be (O, I) and (…, I)"
        )
    return (*shapes[0][:-1], weight[0])


SIGNATURE = Signature(inputs=(1, 2), ratios="channel", layer=True, stream=True, shape=output_shape)


def prepare(op: Op, program: Program) -> Kernel:
    """One GEMM a batch, or one a group."""
    weight = centred_weight(op).astype(exact_float(op, program))
    return product(op, program, weight, layer_output(op, program))


def product(op: Op, program: Program, weight: NDArray[Any], output: Callable[..., Integers]) -> Kernel:
    """Sums ``Σ (qx−zx) w`` in the float type of `weight`, (O, L), and what `output` makes of them."""
    zero_point = program.values[op.inputs[0]].zero_point
    groups, (rows, size) = op.attrs.get("groups", 1), weight.shape
    matrices = weight.reshape(groups, rows // groups, size)

    def run(q: Integers, *residual: Integers) -> Integers:
        x: NDArray[Any] = q.reshape(-1, size * groups).astype(weight.dtype)
        x -= zero_point
        sums: NDArray[Any] = matrices @ x.T.reshape(groups, size, len(x))
        levels = output(sums.reshape(rows, len(x)), *(r.reshape(-1, r.shape[-1]).T for r in residual))
        return levels.T.reshape(*q.shape[:-1], len(levels))

    return run
