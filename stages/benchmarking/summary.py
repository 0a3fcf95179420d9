"""A benchmark in one table: a row a network, how many times as long as ours each peer takes, the best of all.

A geometric mean (Fleming and Wallace 1986) is over the settings in which a peer took part; that of the best
peer is over all. Where the benchmark holds peers to an instruction set, those that cannot be held are shown
and not counted among the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stages.benchmarking.result import Benchmark, Row, Setting


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Ours and the peers in one setting.

    Args:
        setting: what they did.
        ours: median in seconds.
        ratios: by peer, its median over ours; those that failed are missing.
        held: the peers that count, if they have a ratio.
    """

    setting: Setting
    ours: float
    ratios: Mapping[str, float] = field(default_factory=dict)
    held: frozenset[str] = frozenset()

    @property
    def best(self) -> tuple[str, float] | None:
        """The fastest peer that counts, and its ratio."""
        counted = [(name, ratio) for name, ratio in self.ratios.items() if name in self.held]
        return min(counted, key=lambda one: one[1], default=None)


def beside(benchmark: Benchmark) -> tuple[Beside, ...]:
    """The settings in which ours was timed, in order."""
    return tuple(_beside(benchmark))


def _beside(benchmark: Benchmark) -> Iterator[Beside]:
    for setting in benchmark.settings():
        rows: Sequence[tuple[Row, float | None]] = tuple(benchmark.of(setting))
        base = next((row.timing for row, _ in rows if row.competitor == benchmark.baseline), None)
        if base is None:
            continue
        peers = [(row, ratio) for row, ratio in rows if row.peer and row.competitor != benchmark.baseline]
        yield Beside(
            setting=setting,
            ours=base.median,
            ratios={row.competitor: ratio for row, ratio in peers if ratio is not None},
            held=frozenset(row.competitor for row, _ in peers if row.held),
        )


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product of n ≥ 1 positive values."""
    return math.exp(math.fsum(map(math.log, values)) / len(values))


def means(settings: Sequence[Beside]) -> dict[str, tuple[float, int]]:
    """By peer, the geometric mean of its ratios and over how many settings; ``best peer`` first, if any."""
    found: dict[str, list[float]] = {}
    for one in settings:
        if one.best is not None:
            found.setdefault("best peer", []).append(one.best[1])
    for one in settings:
        for peer, ratio in one.ratios.items():
            found.setdefault(peer, []).append(ratio)
    return {peer: (geometric_mean(ratios), len(ratios)) for peer, ratios in found.items()}


def summary_metrics(benchmark: Benchmark) -> dict[str, float]:
    """``best_peer/ratio`` of each setting, and ``geometric_mean/<peer>`` over them."""
    settings = beside(benchmark)
    values = {f"{one.setting}/best_peer/ratio": one.best[1] for one in settings if one.best is not None}
    return values | {
        f"geometric_mean/{peer.replace(' ', '_')}": mean for peer, (mean, _) in means(settings).items()
    }


def summary_table(benchmark: Benchmark) -> tuple[list[str], list[list[str]]]:
    """Columns and rows; the last row has the geometric means. A failed peer's cell is a dash."""
    settings = beside(benchmark)
    over = means(settings)
    peers = [peer for peer in over if peer != "best peer"]
    free = {peer for one in settings for peer in one.ratios if peer not in one.held}
    names = [f"{peer} (not held)" if peer in free else peer for peer in peers]
    several = len({one.setting.threads for one in settings}) > 1
    rows = []
    for one in settings:
        title = f"{one.setting.workload}, {benchmark.size} {one.setting.size}"
        title += f", {one.setting.threads} threads" if several else ""
        best = "–" if one.best is None else f"{one.best[1]:.2f}× {one.best[0]}"
        cells = [f"{one.ratios[peer]:.2f}×" if peer in one.ratios else "–" for peer in peers]
        rows.append([title, f"{1e3 * one.ours:.2f}", best, *cells])
    if over:
        last = [f"{over[peer][0]:.2f}×" for peer in peers]
        rows.append(
            ["geometric mean", "", f"{over['best peer'][0]:.2f}×" if "best peer" in over else "–", *last]
        )
    return ["network", f"{benchmark.baseline} ms", "best peer", *names], rows


def summary_markdown(benchmark: Benchmark) -> str:
    """The table in Markdown, after the machine, before every competitor that failed and why."""
    columns, rows = summary_table(benchmark)
    facts = ", ".join(f"{name} {value}" for name, value in benchmark.machine.items())
    lines = [facts, "", *(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))]
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in benchmark.rows:
        if row.timing is None:
            name = f"{row.setting.workload} {row.setting.size}"
            reasons.setdefault((row.competitor, row.failure), []).append(name)
    lines += ["", *(f"- {peer}: {why} ({', '.join(names)})" for (peer, why), names in reasons.items())]
    return "\n".join(lines).rstrip() + "\n"
