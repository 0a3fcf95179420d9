"""The epochs of a training: the order of samples, a step, and when it stops."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.seed import derive_seed
from stages.data.base import Data
from stages.data.batches import batches, channels_last
from stages.tasks.base import Task
from stages.training.augment import crop_flip
from stages.training.checkpoint import Epoch
from stages.training.held_out import best_epoch, hold_out, quality
from stages.training.objective import Objective
from stages.training.shares import Shares

if TYPE_CHECKING:
    from stages.training.fit import FloatTraining  # which takes the loop

CHECK_EVERY = 50
"""Steps between looks at the loss; each makes a GPU wait."""


class Loop:
    """Epochs of one training.

    Args:
        module: what is trained, on `device`.
        data: gives the training samples.
        recipe: how.
        task: what is learned.
        seed: of order, augmentation, dropout and held-out samples.
        device: as torch names it.
        objective: what is minimized.
        shares: this process's part of each batch.
    """

    def __init__(
        self,
        module: nn.Module,
        data: Data,
        recipe: FloatTraining,
        task: Task,
        seed: int,
        device: str,
        objective: Objective,
        shares: Shares,
    ) -> None:
        self.module, self.data, self.recipe, self.objective = module, data, recipe, objective
        self.task, self.seed, self.device, self.shares = task, seed, device, shares
        self.split = data.train()
        self.rows, self.held_out = hold_out(self.split, recipe.held_out, seed)
        self.per_epoch = math.ceil(len(self.rows) / recipe.batch_size)
        self.steps = self.per_epoch * recipe.epochs
        groups = objective.parameter_groups(recipe.weight_decay)
        if recipe.epochs and not any(group["params"] for group in groups):
            raise PipelineError(
                f"epochs={recipe.epochs}: there is nothing to train, {type(module).__name__} has no "
                "parameters, or all are frozen (requires_grad=False). Remedy: 0 epochs (as "
                "training.float.epochs=0), model.weights=…, or unfreeze some"
            )
        self.optimizer = _optimizer(groups, recipe)

    def epoch(self, number: int, advance: Callable[..., None]) -> Epoch:
        """One pass over the training samples in random order."""
        start = time.perf_counter()
        generator = torch.Generator().manual_seed(derive_seed(self.seed, f"train/{number}"))
        order = self.rows[torch.randperm(len(self.rows), generator=generator).numpy()]
        order = self.shares.usable(order, self.recipe.batch_size)
        loss_sum = torch.zeros((), device=self.device)
        tally: Tensor | None = None
        seen, told = 0, {"epoch": float(number)}
        with torch.random.fork_rng(), torch.enable_grad():
            rank = f"/{self.shares.rank}" if self.shares.rank else ""  # what drops out is each rank's own
            torch.manual_seed(derive_seed(self.seed, f"dropout/{number}{rank}"))
            for index, share in enumerate(self.shares.of(order, self.recipe.batch_size)):
                x, y = next(batches(self.split, len(share.rows), self.data, order=share.rows))
                if self.recipe.augment == "crop_flip":
                    x = crop_flip(x, generator, share.first, share.of)
                x, y = channels_last(x).to(self.device), y.to(self.device)
                loss, outputs = self._step(
                    x, y, (number - 1) * self.per_epoch + index, len(share.rows) / share.of
                )
                loss_sum += loss * share.of
                own = self.task.tally(outputs.detach(), y)
                tally = own if tally is None else tally + own
                seen += len(y)
                if index % CHECK_EVERY == 0:
                    _check_finite(loss_sum, self.recipe, number)
                    told["loss"] = loss_sum.item() / seen
                advance(1, **told)
        _check_finite(loss_sum, self.recipe, number)
        tally = None if tally is None else self.shares.add(tally)
        self.shares.adopt(self.module)
        held_out = quality(self.module, self.split, self.data, self.held_out, self.task, self.device)
        return Epoch(
            loss=loss_sum.item() / len(order),
            quality=math.nan if tally is None else self.task.score(tally),
            seconds=time.perf_counter() - start,
            learning_rate=self.recipe.rate(number * self.per_epoch - 1, self.steps),
            held_out=held_out,
        )

    def best(self, history: list[Epoch]) -> int:
        """Number of the epoch to go back to, among those that can be used; 0 while there is none."""
        usable = (
            number
            for number in range(1, len(history) + 1)
            if self.objective.settled(number * self.per_epoch, self.steps)
        )
        gains = [self.task.batched.gain(epoch.held_out) for epoch in history]
        return best_epoch(gains, next(usable, len(history) + 1))

    def stops(self, history: list[Epoch]) -> bool:
        """Whether patience has run out."""
        best = self.best(history)
        return self.recipe.patience is not None and best > 0 and len(history) - best >= self.recipe.patience

    def _step(self, x: Tensor, y: Tensor, step: int, share: float) -> tuple[Tensor, Tensor]:
        """The loss of the batch of which x and y are a `share`, detached, and the outputs for x."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(step, self.steps) * group.get("rate", 1.0)
        brief = torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.recipe.autocast)
        with self.shares.normalizing(), brief:
            loss, outputs = self.objective.loss(x, y, step, self.steps)
        self.optimizer.zero_grad()
        loss = self.shares.backward(loss, self.module.parameters(), share)
        if self.recipe.clip_grad is not None:
            nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        return loss, outputs


def _check_finite(loss: Tensor, recipe: FloatTraining, epoch: int) -> None:
    if not math.isfinite(loss.item()):
        clip = "" if recipe.clip_grad is not None else ", or limit the gradient with clip_grad=1.0"
        raise PipelineError(
            f"the training loss became {loss.item()} in epoch {epoch} of {recipe.epochs}.\n"
            f"Remedy: lower learning_rate={recipe.learning_rate:g}{clip}."
        )


def _optimizer(groups: list[dict[str, Any]], recipe: FloatTraining) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0.0
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=recipe.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, recipe.learning_rate, fused=True)
