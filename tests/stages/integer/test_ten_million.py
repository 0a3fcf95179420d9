"""The fixed-point primitives on ten million operands and on all edges, against the C code in int64 arrays.

That oracle is itself checked against unbounded Python integers: on every edge, and on 50,000 of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.integer.fixed_point import (
    fused_multiply,
    multiply_by_quantized_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from stages.integer.single_rounding import fused_multiply_single, multiply_by_quantized_multiplier_single
from tests.stages.integer import oracle, vector_oracle

SAMPLES, CHUNK = 10_000_000, 2**15
"""A chunk stays in cache."""

X_EDGES = sorted(
    {
        min(max(sign * 2**k + off, -(2**31)), 2**31 - 1)
        for k, sign, off in product(range(32), (-1, 1), (-1, 0, 1))
    }
)
MULTIPLIERS = (0, 2**30, 2**30 + 1, 3 * 2**29, 3 * 2**29 + 1, 1518500250, 2**31 - 2, 2**31 - 1)
SHIFTS = range(-31, 31)

Operands = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


def edges() -> Operands:
    """Every edge of x with every multiplier and shift."""
    x, multiplier, shift = np.array(list(product(X_EDGES, MULTIPLIERS, SHIFTS)), np.int64).T.copy()
    return x, multiplier, shift


def drawn(samples: int = SAMPLES) -> Iterator[Operands]:
    """x, multiplier, shift: a half of any values, a quarter of ties, a quarter of their neighbours.

    ``x · multiplier · 2^(shift − 31)`` is a tie where both factors end in ``30 − shift`` zeros together.
    """
    rng = np.random.default_rng(0)
    for start in range(0, samples, CHUNK):
        n = min(CHUNK, samples - start)
        x = rng.integers(-(2**31), 2**31, n)
        multiplier = rng.integers(2**30, 2**31, n)
        shift = rng.integers(-31, 31, n)
        tied = slice(0, n // 2)
        shift[tied] = np.maximum(shift[tied], -30)
        least, most = np.maximum(0, -shift[tied]), np.minimum(30, 30 - shift[tied])
        zeros = rng.integers(least, most + 1)
        multiplier[tied] = _with_trailing_zeros(multiplier[tied], zeros)
        x[tied] = _with_trailing_zeros(x[tied], 30 - shift[tied] - zeros)
        beside = slice(n // 4, n // 2)
        x[beside] = np.clip(x[beside] + rng.choice([-1, 1], n // 2 - n // 4), -(2**31), 2**31 - 1)
        yield x, multiplier, shift


def _with_trailing_zeros(a: NDArray[np.int64], zeros: NDArray[np.int64]) -> NDArray[np.int64]:
    return ((a >> zeros) | 1) << zeros


def _divided(x, multiplier, shift):
    """x and an exponent 0..31; where the multiplier is odd, x becomes a tie. Numbers or arrays."""
    exponent = np.abs(shift)
    zeros = np.maximum(exponent - 1, 0)
    return np.where(multiplier & 1, ((x >> zeros) | 1) << zeros, x), exponent


def _fused(make: Callable) -> Callable:
    """A channel an operand."""

    def multiply(x, multiplier, shift):
        return make(multiplier.astype(np.int32), shift.astype(np.int32))(x.astype(np.int32)[:, None])[:, 0]

    return multiply


PRIMITIVES = {
    "high_mul": (
        lambda x, multiplier, shift: saturating_rounding_doubling_high_mul(x, multiplier),
        lambda x, multiplier, shift: vector_oracle.high_mul(x, multiplier),
        lambda x, multiplier, shift: oracle.high_mul(x, multiplier),
    ),
    "divide_by_pot": (
        lambda *operands: rounding_divide_by_pot(*_divided(*operands)),
        lambda *operands: vector_oracle.divide_by_pot(*_divided(*operands)),
        lambda *operands: oracle.divide_by_pot(*map(int, _divided(*operands))),
    ),
    "multiply": (
        multiply_by_quantized_multiplier,
        vector_oracle.fixed_multiply,
        oracle.fixed_multiply,
    ),
    "fused_multiply": (
        _fused(fused_multiply),
        vector_oracle.fixed_multiply,
        oracle.fixed_multiply,
    ),
    "multiply_single": (
        multiply_by_quantized_multiplier_single,
        vector_oracle.single_multiply,
        oracle.single_multiply,
    ),
    "fused_multiply_single": (
        _fused(fused_multiply_single),
        vector_oracle.single_multiply,
        oracle.single_multiply,
    ),
}


@pytest.mark.parametrize("name", [name for name in PRIMITIVES if "fused" not in name])
def test_the_oracle_and_the_primitive_equal_unbounded_integers(name: str) -> None:
    primitive, vectorized, exact = PRIMITIVES[name]
    for operands in (edges(), next(drawn(50_000))):
        expected = np.array([exact(*map(int, row)) for row in zip(*operands, strict=True)])
        assert (vectorized(*operands) == expected).all()
        assert (primitive(*operands) == expected).all()


@pytest.mark.parametrize("name", PRIMITIVES)
def test_ten_million_operands(name: str) -> None:
    primitive, vectorized, _ = PRIMITIVES[name]
    checked = 0
    for operands in drawn():
        assert (primitive(*operands) == vectorized(*operands)).all()
        checked += len(operands[0])
    assert checked == SAMPLES
    assert (primitive(*edges()) == vectorized(*edges())).all()


def test_high_mul_of_all_pairs_of_edges() -> None:
    a, b = np.array(list(product(X_EDGES, X_EDGES)), np.int64).T.copy()
    expected = np.array([oracle.high_mul(*map(int, pair)) for pair in zip(a, b, strict=True)])
    assert (vector_oracle.high_mul(a, b) == expected).all()
    assert (saturating_rounding_doubling_high_mul(a, b) == expected).all()


def test_a_quarter_of_the_operands_are_ties() -> None:
    x, multiplier, shift = next(drawn())
    remainder = (x * multiplier) & ((np.int64(1) << (31 - shift)) - 1)
    ties = remainder == np.int64(1) << (30 - shift)
    assert ties[: CHUNK // 4].all()
    assert ties.mean() < 0.3
