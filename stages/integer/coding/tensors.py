"""A weight as decisions: where it is not 0, and its levels there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.integer.coding.lanes import BITS, ONE, Ints
from stages.integer.coding.rows import DecisionCoder, Flags, OccupancyModel, code_occupancy
from stages.integer.coding.symbols import code_symbols

LANES = 256
"""Numbers a step, where they have no place in rows."""

MANY = 1 << 20
"""Weights of so many values are coded without trying what suits them best."""


@dataclass(frozen=True, kw_only=True)
class WeightLayout:
    """How a weight (O, …) is coded: all that the decoder needs to know before.

    Args:
        shape: of the weight.
        zero: the level that is left out, the zero point's; None where all are coded as numbers.
        levels: those that the others have, ascending, in the weight's dtype.
        turned: rows are inputs, columns outputs; else the reverse.
        parts: steps a row.
        lag: rows to the one above.
        density: share of the others, of 255.
        signs: whether signs are coded with places.
        columns: which columns are not all 0, bool; None for all.
    """

    shape: tuple[int, ...]
    zero: int | None
    levels: NDArray[Any]
    turned: bool = False
    parts: int = 1
    lag: int = 2
    density: int = 128
    signs: bool = False
    columns: Flags | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns, all of them."""
        o, inputs = self.shape[0], math.prod(self.shape[1:])
        return (inputs, o) if self.turned else (o, inputs)

    @property
    def kept(self) -> Ints:
        """The columns that are coded."""
        return np.arange(self.grid[1]) if self.columns is None else np.flatnonzero(self.columns)

    def matrix(self, weight: NDArray[Any]) -> NDArray[Any]:
        """The weight as rows and columns."""
        flat = weight.reshape(self.shape[0], -1)
        return flat.T if self.turned else flat


def layout_of(weight: NDArray[Any], zero: int, steps: int) -> WeightLayout:
    """How to code a weight, int8 or uint8 (O, …), not empty, whose real zero is the level `zero`.

    Args:
        weight: the levels.
        zero: of the zero point.
        steps: about how many steps its rows may take.
    """
    if np.count_nonzero(weight != zero) > 0.95 * weight.size:
        return WeightLayout(shape=weight.shape, zero=None, levels=np.unique(weight))
    tried = list(_layouts(weight, zero, steps))
    if weight.size > MANY:
        return tried[0]
    return min(tried, key=lambda layout: _cost(weight, layout))


def _layouts(weight: NDArray[Any], zero: int, steps: int) -> Iterator[WeightLayout]:
    levels = np.unique(weight[weight != zero])
    plain = WeightLayout(shape=weight.shape, zero=zero, levels=levels)
    wide_first = weight.shape[0] > math.prod(weight.shape[1:])
    for turned in (wide_first, not wide_first):
        own = replace(plain, turned=turned)
        occupied = own.matrix(weight) != zero
        columns = occupied.any(axis=0)
        inner = occupied[:, columns]
        own = replace(
            own,
            density=min(max(round(255 * float(inner.mean() if inner.size else 0.0)), 1), 254),
            columns=None if columns.all() else columns,
            parts=max(1, min(16, steps // len(occupied))),
        )
        if turned != wide_first and len(occupied) > 2 * steps:
            continue
        yield own
        for lag in {_lag(inner)} - {2} if turned else set():
            yield replace(own, lag=lag)
            yield replace(own, lag=lag, signs=True)
        yield replace(own, signs=True)


def _lag(occupied: Flags) -> int:
    """The distance, 2 .. 64, at which rows resemble each other most."""
    rows = occupied.mean(axis=0)
    centred = occupied - rows
    distances = range(2, min(65, len(occupied) // 2))
    if not centred.any():
        return 2
    return max(distances, key=lambda d: float((centred[d:] * centred[:-d]).mean()), default=2)


class _Cost:
    """Adds up what decisions would take."""

    def __init__(self) -> None:
        self.bits = 0.0

    def code(self, p: Ints, decisions: Flags | None) -> Flags:
        """As an encoder."""
        assert decisions is not None
        self.bits -= float(np.log2(np.where(decisions, p, ONE - p) / ONE).sum())
        return decisions


def _cost(weight: NDArray[Any], layout: WeightLayout) -> float:
    cost = _Cost()
    code_weight(cost, OccupancyModel(), layout, weight)
    return cost.bits + (0 if layout.columns is None else layout.columns.size)


def code_weight(
    coder: DecisionCoder, model: OccupancyModel, layout: WeightLayout, known: NDArray[Any] | None
) -> NDArray[Any]:
    """A weight, to an encoder or from a decoder.

    Args:
        coder: to, or from.
        model: goes on learning.
        layout: of the weight.
        known: the weight; None decodes.

    Raises:
        ValueError: the stream is damaged.
    """
    k = len(layout.levels)
    if layout.zero is None:
        index = None if known is None else np.searchsorted(layout.levels, known.ravel())
        count = math.prod(layout.shape)
        own = code_symbols(coder, count, k, LANES, index)
        return layout.levels[own].reshape(layout.shape)
    kept = layout.kept
    inner = None if known is None else layout.matrix(known)[:, kept]
    signed = None if inner is None else np.sign(inner.astype(np.int16) - layout.zero).astype(np.int8)
    places = code_occupancy(
        coder,
        model,
        (layout.grid[0], len(kept)),
        parts=layout.parts,
        lag=layout.lag,
        density=(layout.density << BITS) // 255,
        signs=layout.signs,
        known=signed if layout.signs or signed is None else np.abs(signed),
    )
    matrix = np.full(layout.grid, layout.zero, layout.levels.dtype)
    decoded = np.full(places.shape, layout.zero, layout.levels.dtype)
    for sign in (-1, 1) if layout.signs else (1,):
        own_levels = layout.levels
        if layout.signs:
            own_levels = own_levels[(own_levels > layout.zero) if sign > 0 else (own_levels < layout.zero)]
        there = places == sign
        count = int(np.count_nonzero(there))
        if count and not len(own_levels):
            raise ValueError("a sign that no level has: the stream is damaged")
        index = None if inner is None else np.searchsorted(own_levels, inner[there])
        if count:
            decoded[there] = own_levels[code_symbols(coder, count, len(own_levels), LANES, index)]
    matrix[:, kept] = decoded
    return np.ascontiguousarray((matrix.T if layout.turned else matrix).reshape(layout.shape))
