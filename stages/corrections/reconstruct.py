"""Reconstruction block by block: weights' rounding and activations' scales learned together, without labels.

BRECQ (Li et al. 2021, arXiv 2102.05426) compares what a block gives, not a layer, so that its layers make up
for each other; QDrop (Wei et al. 2022, arXiv 2203.05740) leaves values unrounded by chance, so that what is
learned does not fit one noise. For a block B that reads x in the float network and x̃ in the simulation, whose
earlier blocks are done, the variables V of `stages.corrections.soft_rounding` and the scales s of the values
that B computes minimize by Adam, over batches of calibration samples,

    ``Σ_y E‖y − ỹ‖² / e₀(y) + λ · Σ_layers mean(1 − |2h(V) − 1|^β)``,

y the values that leave B, ỹ what it gives from a mixture of x and x̃, and e₀ the first term's value before.
Each value, of x̃ and of those that B rounds, is rounded with probability 1 − p (p = 0.5 in QDrop), in every
step anew. The scale's gradient is that of learned step sizes (Esser et al. 2020, arXiv 1902.08153), and is
taken of log s, so that one rate suits all. The error is the plain square, as in QDrop: BRECQ's weights by the
loss's curvature need labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.corrections.lockstep import BlockInputs, simulation_of_block
from stages.corrections.soft_block import SoftBlock, mixed
from stages.corrections.soft_rounding import beta, check_descent, regularizer
from stages.graph.quantized import QuantizedGraph
from stages.quant.estimators.base import Start


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """How to look for a block's levels and scales.

    Args:
        iterations: steps of Adam.
        batch_size: samples a step.
        learning_rate: of V.
        scale_learning_rate: of log s, falling to 0 along a cosine; 0 leaves scales as calibrated.
        regularization: λ.
        warm_up: share of the iterations, in [0, 1), before the regularizer sets in.
        drop: p, in [0, 1): the share of values that are left unrounded.
    """

    iterations: int = 1000
    batch_size: int = 32
    learning_rate: float = 0.1
    scale_learning_rate: float = 0.001
    regularization: float = 3.0
    warm_up: float = 0.2
    drop: float = 0.5

    def __post_init__(self) -> None:
        check_descent(self, shares={"warm_up": "a share of the iterations", "drop": "a share"})
        if not self.scale_learning_rate >= 0.0:
            raise ValueError(f"scale_learning_rate={self.scale_learning_rate}: must not be negative")

    def reconstruct(
        self,
        quantized: QuantizedGraph,
        block: BlockInputs,
        starts: Mapping[str, Start],
        chance: np.random.Generator,
    ) -> tuple[QuantizedGraph, float]:
        """Correct a block; it keeps what it has where that gives no smaller error in the simulation.

        Args:
            quantized: the network as corrected so far.
            block: what it reads and should give.
            starts: by quantization point, where its scale starts, for the points whose scales may change.
            chance: draws batches, and what is dropped.

        Returns:
            The corrected network, and its error relative to that of before.
        """
        before = block_errors(quantized, block, self.batch_size)
        soft = SoftBlock(quantized, block.nodes, starts if self.scale_learning_rate > 0.0 else {})
        if not soft.learns or not any(before.values()):
            return quantized, 1.0
        self._learn(soft, block, before, chance)
        found = soft.result()
        after = block_errors(found, block, self.batch_size)
        relative = _relative(after, before)
        return (found, relative) if relative < 1.0 else (quantized, 1.0)

    def _learn(
        self, soft: SoftBlock, block: BlockInputs, e0: Mapping[str, float], chance: np.random.Generator
    ) -> None:
        groups = {"rounding": soft.rounding(), "scales": soft.log_scales()}
        optimizer = torch.optim.Adam(
            [{"params": own, "kind": kind} for kind, own in groups.items() if own], lr=self.learning_rate
        )
        rows = _batches(block.samples, self.batch_size, chance)
        for iteration in range(self.iterations):
            falling = 0.5 * (1.0 + math.cos(math.pi * iteration / self.iterations))
            for group in optimizer.param_groups:
                if group["kind"] == "scales":
                    group["lr"] = self.scale_learning_rate * falling
            batch = next(rows)
            read = {
                name: mixed(x[batch], block.floats[name][batch], self.drop, chance)
                for name, x in block.simulated.items()
            }
            values, ups = soft(read, self.drop, chance)
            terms = [
                (values[name] - y[batch]).square().mean() / e0[name]
                for name, y in block.targets.items()
                if e0[name] > 0.0  # else it is exact as it is
            ]
            exponent = beta(iteration, self.iterations, self.warm_up)
            if exponent is not None:
                terms += [self.regularization * regularizer(h, exponent) for h in ups]
            optimizer.zero_grad()
            torch.stack(terms).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            soft.bound()


def block_errors(quantized: QuantizedGraph, block: BlockInputs, batch_size: int) -> dict[str, float]:
    """The mean squared error of each value that a block gives, in the simulation, over all samples."""
    total = dict.fromkeys(block.targets, 0.0)
    run = simulation_of_block(quantized, block.nodes)
    with torch.no_grad():
        for start in range(0, block.samples, batch_size):
            rows = slice(start, start + batch_size)
            values = run({name: x[rows] for name, x in block.simulated.items()})
            for name, y in block.targets.items():
                total[name] += float((values[name] - y[rows]).square().sum(dtype=torch.float64))
    return {name: error / block.targets[name].numel() for name, error in total.items()}


def _relative(after: Mapping[str, float], before: Mapping[str, float]) -> float:
    """The mean of the values' errors relative to those before; 1 is no change."""
    ratios = [error / before[name] if before[name] else math.inf for name, error in after.items() if error]
    return sum(ratios) / sum(error > 0.0 for error in before.values())


def _batches(samples: int, batch_size: int, chance: np.random.Generator) -> Iterator[Tensor]:
    """Rows of one batch after the other, in a new order each time all have had their turn."""
    size = min(batch_size, samples)
    while True:
        order = torch.from_numpy(chance.permutation(samples))
        for start in range(0, samples - size + 1, size):
            yield order[start : start + size]
