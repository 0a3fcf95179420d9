"""Training in float: the loop that makes the network which the rest of the pipeline quantizes.

The random numbers of an epoch (order, augmentation, dropout) depend on the seed and the epoch's number
alone. With the same seed, number of threads and of ranks, a training gives the same weights to the bit on a
CPU, whether or not it was killed and resumed in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import nn

from pipeline.ranks import Ranks
from stages.data.base import Data
from stages.tasks.base import Task
from stages.tasks.classification import Classification
from stages.training.checkpoint import Epoch, identity_of, save_checkpoint
from stages.training.held_out import Kept
from stages.training.loop import Loop
from stages.training.objective import Divided, FloatObjective, Objective
from stages.training.shares import Shares


@dataclass(frozen=True, kw_only=True)
class FloatTraining:
    """How to train.

    Args:
        epochs: passes over the training split; 0 leaves the network as it is.
        batch_size: samples a step.
        optimizer: ``sgd`` with Nesterov momentum, or ``adamw`` (Loshchilov & Hutter 2019), whose
            learning rates are a tenth of that and less.
        learning_rate: the peak.
        weight_decay: of weight matrices and kernels; biases and BatchNorm are not decayed.
        momentum: of sgd; adamw ignores it.
        schedule: ``cosine`` falls to 0 at the last step; ``constant`` stays at the peak.
        warmup: share of all steps, in [0, 1), over which the rate rises linearly to the peak.
        label_smoothing: in [0, 1), probability spread over all classes.
        augment: ``crop_flip`` shifts and mirrors images; ``none`` shows them as they are.
        clip_grad: largest norm of the whole gradient; None for no limit.
        held_out: share of the training split, in [0, 1), that is not trained on but measured after each
            epoch.
        patience: stop after so many epochs without a better figure on the held-out samples, and go back
            to the best epoch's weights; None trains to the end.
        autocast: multiply in bfloat16 where torch's autocast holds that to be enough; weights, BatchNorm's
            statistics and the loss stay float32. For networks in float.
    """

    epochs: int = 15
    batch_size: int = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 0.001
    momentum: float = 0.9
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.0
    augment: Literal["none", "crop_flip"] = "none"
    clip_grad: float | None = 1.0
    held_out: float = 0.0
    patience: int | None = None
    autocast: bool = False

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {least}")
        if not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate={self.learning_rate}: must be positive")
        if self.weight_decay < 0.0:
            raise ValueError(f"weight_decay={self.weight_decay}: must not be negative")
        for name in ("momentum", "warmup", "label_smoothing", "held_out"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}={getattr(self, name)}: must be in [0, 1)")
        if self.clip_grad is not None and not self.clip_grad > 0.0:
            raise ValueError(f"clip_grad={self.clip_grad}: must be positive, or null for no limit")
        if self.patience is not None and (self.patience < 1 or not self.held_out):
            raise ValueError(
                f"patience={self.patience}: must be at least 1, and needs samples to look at: "
                f"held_out={self.held_out:g} must be a share above 0, as 0.1"
            )

    def rate(self, step: int, steps: int) -> float:
        """The learning rate at `step`, 0 .. steps-1."""
        rising = round(self.warmup * steps)
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (step - rising) / (steps - rising)))


class Progress(Protocol):
    """Opens a progress bar; what it yields moves the bar on: ``advance(1, loss=0.3)``."""

    def __call__(
        self, description: str, total: int | None = None
    ) -> AbstractContextManager[Callable[..., None]]:
        """A bar over `total` steps."""


@contextmanager
def _silent(description: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    yield lambda *_, **__: None


def fit(
    module: nn.Module,
    data: Data,
    recipe: FloatTraining,
    *,
    task: Task | None = None,
    seed: int,
    device: str = "cpu",
    objective: Objective | None = None,
    progress: Progress = _silent,
    on_epoch: Callable[[int, Epoch], None] | None = None,
    on_resume: Callable[[str], None] | None = None,
    checkpoint: Path | None = None,
    ranks: Ranks | None = None,
) -> None:
    """Train `module` in place on ``data.train()``; leaves it in evaluation mode.

    Args:
        module: a batch (N, …) to outputs (N, …); moved to `device`.
        data: the data set.
        recipe: how to train.
        task: what is learned; None for classification.
        seed: of order, augmentation, dropout and held-out samples.
        device: as torch names it.
        objective: what to minimize; None for the task's loss in float.
        progress: shows how far it is, for example ``console.progress``.
        on_epoch: called after each epoch with its number (from 1) and what it gave; after a resumption
            also for the epochs done before.
        on_resume: called where training goes on from `checkpoint`, with where: ``after epoch 3 of 15``.
        checkpoint: file for the state after each epoch. Where it holds a state of this very training
            (initial weights, data, recipe, seed), training goes on from there, on any number of ranks.
        ranks: the processes that train together, each on its share of every batch (`stages.training.shares`);
            None for this one. Rank 0 writes, and all end with its weights.

    Raises:
        PipelineError: the loss became NaN or infinite, or all parameters are frozen.
    """
    module.to(device).train()
    task = task or Classification()
    objective = objective or FloatObjective(module, task, recipe.label_smoothing)
    shares = Shares(ranks)
    if shares.group is not None and isinstance(objective, Divided):
        objective.divide(shares.group)
    loop = Loop(module, data, recipe, task, seed, device, objective, shares)
    history: list[Epoch] = []
    identity = ""
    if checkpoint is not None:
        identity = identity_of(module, recipe, task, seed, data.fingerprint())
        history = shares.resume(checkpoint, identity, module, loop.optimizer)
    if history and on_resume is not None:
        on_resume(f"after epoch {len(history)} of {recipe.epochs}")
    best = Kept(checkpoint)
    with progress("training", loop.steps) as advance:
        for number, epoch in enumerate(history, start=1):
            advance(loop.per_epoch)
            if on_epoch is not None:
                on_epoch(number, epoch)
        while len(history) < recipe.epochs and not loop.stops(history):
            history.append(loop.epoch(len(history) + 1, advance))
            if recipe.patience is not None and loop.best(history) == len(history) and shares.leads:
                best.keep(module)
            if checkpoint is not None and shares.leads:
                save_checkpoint(checkpoint, identity, module, loop.optimizer, history, shares.size)
            if on_epoch is not None:
                on_epoch(len(history), history[-1])
    if recipe.patience is not None and loop.best(history):
        if shares.leads:
            best.restore(module)
        shares.adopt(module)
    module.eval()


def misfits_of_shares(path: str, recipe: FloatTraining, size: int) -> Iterator[str]:
    """Why `size` ranks cannot divide the batches of a recipe at config path `path`."""
    if recipe.batch_size < size:
        yield (
            f"{path}.batch_size={recipe.batch_size}: must be at least {size}, a sample for each rank. "
            f"Remedy: {path}.batch_size={size} or more, or --nproc-per-node={recipe.batch_size}"
        )
