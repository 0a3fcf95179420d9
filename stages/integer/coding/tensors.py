"""A weight as decisions: where it is not 0, and its levels there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stages.integer.coding.lanes import BITS, ONE, Ints
from stages.integer.coding.rows import DecisionCoder, Flags, OccupancyModel, code_occupancy
from stages.integer.coding.symbols import SymbolModel, code_symbols

Order = Literal["outputs", "inputs", "kernels"]

FULL = (3, 5, 7, 10)
"""Quarters of the average, between which columns are told apart: the fuller, the larger their levels."""

MANY = 1 << 20
"""Weights of so many values are coded without trying what suits them best."""


@dataclass(frozen=True, kw_only=True)
class WeightLayout:
    """How a weight (O, …) is coded: all that the decoder needs to know before.

    Args:
        shape: of the weight.
        zero: the level that is left out, the zero point's; None where all are coded as numbers.
        levels: those that the others have, ascending, in the weight's dtype.
        order: what rows are: ``outputs``, of which inputs are the columns; ``inputs``, the reverse; or the
            places of a window (``kernels``), whose columns are the pairs of output and input channels.
        parts: steps a row.
        lag: rows to the one above.
        density: share of the others, of 255.
        signs: whether signs are coded with places.
        columns: which columns are not all 0, bool; None for all.
    """

    shape: tuple[int, ...]
    zero: int | None
    levels: NDArray[Any]
    order: Order = "outputs"
    parts: int = 1
    lag: int = 2
    density: int = 128
    signs: bool = False
    columns: Flags | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns, all of them."""
        o, inputs = self.shape[0], math.prod(self.shape[1:])
        if self.order == "kernels":
            return math.prod(self.shape[2:]), o * self.shape[1]
        return (inputs, o) if self.order == "inputs" else (o, inputs)

    @property
    def channels(self) -> tuple[int, int] | None:
        """Output and input channels of whose pairs the columns are, where all pairs are coded."""
        return self.shape[:2] if self.order == "kernels" and self.columns is None else None  # type: ignore[return-value]

    @property
    def kept(self) -> Ints:
        """The columns that are coded."""
        return np.arange(self.grid[1]) if self.columns is None else np.flatnonzero(self.columns)

    def matrix(self, weight: NDArray[Any]) -> NDArray[Any]:
        """The weight as rows and columns."""
        if self.order == "kernels":
            return weight.reshape(self.grid[1], self.grid[0]).T
        flat = weight.reshape(self.shape[0], -1)
        return flat.T if self.order == "inputs" else flat

    def weight(self, matrix: NDArray[Any]) -> NDArray[Any]:
        """The weight whose rows and columns these are."""
        return np.ascontiguousarray((matrix if self.order == "outputs" else matrix.T).reshape(self.shape))


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
    orders: list[Order] = ["outputs", "inputs"]
    if math.prod(weight.shape[2:]) > 1:
        orders.append("kernels")
    orders.sort(key=lambda order: replace(plain, order=order).grid[0])
    for order in orders:  # that of the fewest rows first
        own = replace(plain, order=order)
        occupied = own.matrix(weight) != zero
        columns = occupied.any(axis=0)
        inner = occupied[:, columns]
        if order != orders[0] and len(occupied) > 2 * steps:
            continue
        own = replace(
            own,
            density=min(max(round(255 * float(inner.mean() if inner.size else 0.0)), 1), 254),
            columns=None if columns.all() or order == "kernels" else columns,
            parts=max(1, min(16, steps // len(occupied))),
        )
        lags = {"outputs": {2}, "inputs": {2, _lag(inner)}, "kernels": {max(weight.shape[-1], 2)}}
        for lag, signs in product(sorted(lags[order]), (False, True)):
            yield replace(own, lag=lag, signs=signs)


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
    code_weight(cost, WeightModel(), layout, weight)
    return cost.bits + (0 if layout.columns is None else layout.columns.size)


class WeightModel:
    """What is learned from one weight to the next."""

    def __init__(self) -> None:
        self.places = OccupancyModel()
        self.numbers = SymbolModel()


def code_weight(
    coder: DecisionCoder, model: WeightModel, layout: WeightLayout, known: NDArray[Any] | None
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
        alike = np.zeros(math.prod(layout.shape), np.int64)
        return layout.levels[code_symbols(coder, model.numbers, k, alike, 1, index)].reshape(layout.shape)
    kept = layout.kept
    inner = None if known is None else layout.matrix(known)[:, kept]
    signed = None if inner is None else np.sign(inner.astype(np.int16) - layout.zero).astype(np.int8)
    places = code_occupancy(
        coder,
        model.places,
        (layout.grid[0], len(kept)),
        parts=layout.parts,
        lag=layout.lag,
        density=(layout.density << BITS) // 255,
        signs=layout.signs,
        channels=layout.channels,
        known=signed if layout.signs or signed is None else np.abs(signed),
    )
    fullness = _fullness(places)
    decoded = np.full(places.shape, layout.zero, layout.levels.dtype)
    for sign in (-1, 1) if layout.signs else (1,):
        own_levels = layout.levels
        if layout.signs:
            own_levels = own_levels[(own_levels > layout.zero) if sign > 0 else (own_levels < layout.zero)]
        there = places == sign
        if not there.any():
            continue
        if not len(own_levels):
            raise ValueError("a sign that no level has: the stream is damaged")
        index = None if inner is None else np.searchsorted(own_levels, inner[there])
        own = code_symbols(coder, model.numbers, len(own_levels), fullness[there], len(FULL) + 1, index)
        decoded[there] = own_levels[own]
    matrix = np.full(layout.grid, layout.zero, layout.levels.dtype)
    matrix[:, kept] = decoded
    return layout.weight(matrix)


def _fullness(places: NDArray[np.int8]) -> Ints:
    """How full each place's column is beside the others: 0 .. len(FULL), of the places' shape."""
    counts = np.count_nonzero(places, axis=0).astype(np.int64)
    total = int(counts.sum()) or 1
    own: Ints = np.searchsorted(np.array(FULL) * total, counts * len(counts) * 4)
    return np.broadcast_to(own, places.shape)
