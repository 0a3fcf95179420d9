"""Which ATen operators have an integer form, and how each is translated."""

from __future__ import annotations

from collections.abc import Mapping

from stages.graph.aten.arithmetic import ARITHMETIC
from stages.graph.aten.attention import ATTENTION
from stages.graph.aten.call import Translation
from stages.graph.aten.casts import CASTS
from stages.graph.aten.embeddings import EMBEDDINGS
from stages.graph.aten.functions import TABLES
from stages.graph.aten.layers import LAYERS
from stages.graph.aten.masks import MASKS
from stages.graph.aten.merged import SPATIAL, over_merged
from stages.graph.aten.moving import MOVING
from stages.graph.aten.pointwise import POINTWISE
from stages.graph.aten.pools import POOLS
from stages.graph.aten.reductions import EXTREMES, REDUCTIONS
from stages.graph.aten.resampling import RESAMPLING
from stages.graph.aten.shapes import PARTS as SHAPE_PARTS
from stages.graph.aten.shapes import SHAPES
from stages.graph.aten.windows import WINDOWS

_ALL: Mapping[str, Translation] = {
    **LAYERS,
    **POINTWISE,
    **ARITHMETIC,
    **TABLES,
    **POOLS,
    **SHAPES,
    **REDUCTIONS,
    **RESAMPLING,
    **ATTENTION,
    **CASTS,
    **MASKS,
    **MOVING,
    **WINDOWS,
    **EMBEDDINGS,
}

TRANSLATIONS: Mapping[str, Translation] = {
    **_ALL,
    **{name: over_merged(name, _ALL[name]) for name in sorted(SPATIAL)},
}
"""ATen base name (without the in-place underscore) → translation."""

PARTS = {**SHAPE_PARTS, **EXTREMES}
"""Operators that give several values, each translated on its own: from the call, with the part's shape."""


def translation_of(base: str, part: int | None = None) -> Translation | None:
    """The translation of a function, or of one of several values that it gives; None where there is none."""
    if part is None:
        return TRANSLATIONS.get(base)
    return None if base not in PARTS else lambda call: PARTS[base](call, part)
