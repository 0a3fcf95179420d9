"""What normalizations lower alike: factors and offsets of channels as integers of 64-bit arithmetic."""

from __future__ import annotations

import numpy as np

from stages.graph.ratios import Numbers
from stages.integer.kernels import layer_norm
from stages.integer.program import Value


def exponent(x: Numbers) -> int:
    """The least e with ``|x| < 2^e``."""
    return int(np.frexp(np.abs(x).max())[1])


def affine_integers(
    factor: Numbers, offset: Numbers, *, epsilon: float, eps: float, x: Value
) -> tuple[dict[str, Numbers], dict[str, int]]:
    """The tensors ``gamma`` and ``beta``, and the attributes ``epsilon`` and ``shift``.

    Args:
        factor: of the normalized values, in steps of the output, float64.
        offset: likewise.
        epsilon: what is added to the sum of squares, in its steps.
        eps: as the network has it, for the message.
        x: the input.

    Raises:
        ValueError: they leave 64-bit arithmetic.
    """
    gamma_bits = layer_norm.GAMMA_BITS - 1 + layer_norm.UNIT_BITS - exponent(factor)
    shift = min(gamma_bits, layer_norm.BETA_BITS - 1 - exponent(offset), 62)
    if shift < layer_norm.UNIT_BITS // 2 or epsilon >= 2.0**61:
        raise ValueError(
            f"weights of {np.abs(factor).max():.3g} steps of its output, or eps={eps} beside an input's "
            f"scale {x.scale:.3g}, leave 64-bit arithmetic. Remedy: calibrate with samples on which its "
            "values are not constant"
        )
    tensors: dict[str, Numbers] = {
        "gamma": np.rint(factor * 2.0 ** (shift - layer_norm.UNIT_BITS)).astype(np.int32),
        "beta": np.rint(offset * 2.0**shift).astype(np.int64),
    }
    return tensors, {"epsilon": int(epsilon), "shift": shift}
