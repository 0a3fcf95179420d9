"""The plot of layers' sensitivities."""

from __future__ import annotations

import io
from collections.abc import Mapping

from matplotlib.figure import Figure


def plot(divergences: Mapping[str, Mapping[int, float]]) -> str:
    """An SVG: divergence, on a logarithmic axis, over layers, a line for each number of bits.

    Args:
        divergences: by layer name, in execution order, and bits.
    """
    names = list(divergences)
    figure = Figure(figsize=(max(6.0, 0.3 * len(names)), 5.0), layout="constrained")
    axes = figure.add_subplot()
    for bits in sorted({bits for by_bits in divergences.values() for bits in by_bits}):
        points = [(i, divergences[n][bits]) for i, n in enumerate(names) if bits in divergences[n]]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=f"{bits} bits")
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylabel("divergence from the float network")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(title="weights of this layer", fontsize="small")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
