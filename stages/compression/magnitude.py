"""Magnitude pruning: the weights of least magnitude go.

A budget for the whole network compares weights of different layers: by ``|w|``, or by their LAMP scores
(Lee et al. 2021, arXiv 2010.07611, eq. 3), ``w² / Σ_{|v| ≥ |w|} v²`` over the layer's own weights, which
measures what a weight adds to its layer and never empties one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor

from pipeline.errors import PipelineError


@dataclass(frozen=True, kw_only=True)
class Magnitude:
    """Which weights stay.

    Args:
        keep: share of the weights that stays, in (0, 1].
        budget: ``network``: of all weights together, by `score`; ``layer``: of each layer.
        score: what a budget of the network compares: ``magnitude`` or ``lamp``.
        layers: shares of their own, by layer name or pattern (``*``, ``?``), of which later ones win; 1.0
            leaves a layer as it is.
        threshold: instead of shares, weights below so many standard deviations of their layer go, as in Han
            et al. 2015; None for shares.
        pattern: ``[n, m]``: at most n of m consecutive input channels (or features) stay, the rest of
            fewer than m as it is; ``[2, 4]`` is what sparse tensor cores run. None for no pattern.
    """

    keep: float = 0.1
    budget: Literal["network", "layer"] = "network"
    score: Literal["magnitude", "lamp"] = "magnitude"
    layers: Mapping[str, float] | None = None
    threshold: float | None = None
    pattern: list[int] | None = None

    def __post_init__(self) -> None:
        for name, share in {
            "keep": self.keep,
            **{f"layers.{k}": v for k, v in (self.layers or {}).items()},
        }.items():
            if not 0.0 < share <= 1.0:
                raise ValueError(f"{name}={share}: must be a share of the weights, in (0, 1]")
        if self.threshold is not None and not self.threshold > 0.0:
            raise ValueError(f"threshold={self.threshold}: must be positive, or null to prune by shares")
        if self.pattern is not None and not (
            len(self.pattern) == 2 and 1 <= self.pattern[0] <= self.pattern[1] <= 64
        ):
            raise ValueError(f"pattern={self.pattern}: must be [n, m] with 1 <= n <= m <= 64, as [2, 4]")
        if self.pattern is not None and self.threshold is not None:
            raise ValueError(
                f"pattern={self.pattern}, threshold={self.threshold}: one or the other; must not be both"
            )

    def check(self, names: Mapping[str, str]) -> None:
        """Raise `PipelineError` for a pattern of `layers` that no layer's name matches; names by key."""
        for pattern in self.layers or {}:
            if not any(fnmatchcase(name, pattern) for name in names.values()):
                raise PipelineError(
                    f"compression.prune.method.layers: the pattern '{pattern}' matches no layer. Remedy: one "
                    f"of {', '.join(names.values())}, or a pattern of them"
                )

    @torch.no_grad()
    def masks(
        self, weights: Mapping[str, Tensor], names: Mapping[str, str], share: float
    ) -> dict[str, Tensor]:
        """Which weights stay when `share` of what is to go has gone.

        Args:
            weights: float32 (O, …) by key.
            names: of layers, by the same keys.
            share: in [0, 1].

        Returns:
            bool by key, each of its weight's shape. Of equal magnitudes the first stay.
        """
        if self.pattern is not None:
            n, m = self.pattern
            allowed = m - round((m - n) * share)
            return {key: _n_of_m(w, allowed, m) for key, w in weights.items() if self._own(names[key]) != 1.0}
        if self.threshold is not None:
            bound = self.threshold * share
            return {
                key: w.abs() >= bound * w[w != 0].std()
                for key, w in weights.items()
                if self._own(names[key]) != 1.0 and int((w != 0).sum()) > 1
            }
        masks: dict[str, Tensor] = {}
        common: dict[str, Tensor] = {}
        for key, weight in weights.items():
            own = self._own(names[key])
            if own is None and self.budget == "network":
                common[key] = _lamp(weight) if self.score == "lamp" else weight.abs()
            elif own != 1.0:
                masks[key] = _largest(weight.abs(), _kept(weight.numel(), own or self.keep, share))
        if common:
            scores = torch.cat([score.flatten() for score in common.values()])
            chosen = _largest(scores, _kept(scores.numel(), self.keep, share))
            parts = torch.split(chosen, [score.numel() for score in common.values()])
            for (key, score), part in zip(common.items(), parts, strict=True):
                masks[key] = part.reshape(score.shape)
        return masks

    def _own(self, name: str) -> float | None:
        """A layer's own share; None where it has none."""
        found = [share for pattern, share in (self.layers or {}).items() if fnmatchcase(name, pattern)]
        return found[-1] if found else None


def _kept(count: int, keep: float, share: float) -> int:
    return max(1, round(count * (1.0 - (1.0 - keep) * share)))


def _largest(scores: Tensor, count: int) -> Tensor:
    """The `count` largest, bool of their shape; of equals the first."""
    order = torch.sort(scores.flatten(), descending=True, stable=True).indices
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[order[:count]] = True
    return mask.reshape(scores.shape)


def _lamp(weight: Tensor) -> Tensor:
    squares, order = torch.sort(weight.flatten().double().square(), descending=True, stable=True)
    scores = torch.empty_like(squares)
    scores[order] = squares / squares.cumsum(0).clamp_min(1e-300)
    return scores.reshape(weight.shape).float()


def _n_of_m(weight: Tensor, n: int, m: int) -> Tensor:
    """At most n of m neighbours along dimension 1; what is left of fewer than m stays."""
    inputs = weight.shape[1] // m * m
    mask = torch.ones_like(weight, dtype=torch.bool)
    if not inputs:
        return mask
    rows = weight[:, :inputs].movedim(1, -1)
    groups = rows.abs().reshape(*rows.shape[:-1], -1, m)
    order = torch.sort(groups, dim=-1, descending=True, stable=True).indices
    chosen = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :n], True)
    mask[:, :inputs] = chosen.reshape(rows.shape).movedim(-1, 1)
    return mask
