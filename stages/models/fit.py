"""Training in float: the loop that makes the network which the rest of the pipeline quantizes.

The random numbers of an epoch (order, augmentation, dropout) depend on the seed and the epoch's number
alone. With the same seed and number of threads, a training gives the same weights to the bit on a CPU,
whether or not it was killed and resumed in between.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.seed import derive_seed
from stages.data.base import Data, Split
from stages.data.batches import batches
from stages.models.augment import crop_flip
from stages.models.checkpoint import Epoch, identity_of, load_checkpoint, save_checkpoint

CHECK_EVERY = 50
"""Steps between looks at the loss; each makes a GPU wait."""


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

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("batch_size", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {least}")
        if not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate={self.learning_rate}: must be positive")
        if self.weight_decay < 0.0:
            raise ValueError(f"weight_decay={self.weight_decay}: must not be negative")
        for name in ("momentum", "warmup", "label_smoothing"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}={getattr(self, name)}: must be in [0, 1)")
        if self.clip_grad is not None and not self.clip_grad > 0.0:
            raise ValueError(f"clip_grad={self.clip_grad}: must be positive, or null for no limit")

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
    seed: int,
    device: str = "cpu",
    progress: Progress = _silent,
    on_epoch: Callable[[int, float, float, float], None] | None = None,
    checkpoint: Path | None = None,
) -> None:
    """Train `module` in place by cross-entropy on ``data.train()``; leaves it in evaluation mode.

    Args:
        module: float32 (N, C, H, W) to logits (N, num_classes); moved to `device`.
        data: the data set.
        recipe: how to train.
        seed: of order, augmentation and dropout.
        device: as torch names it.
        progress: shows how far it is, for example ``console.progress``.
        on_epoch: called after each epoch with its number (from 1), mean loss, accuracy on the training
            samples as they passed by, and seconds; after a resumption also for the epochs done before.
        checkpoint: file for the state after each epoch. Where it holds a state of this very training
            (initial weights, data, recipe, seed), training goes on from there.

    Raises:
        PipelineError: the loss became NaN or infinite.
    """
    split = data.train()
    module.to(device).train()
    optimizer = _optimizer(module, recipe)
    history: list[Epoch] = []
    identity = ""
    if checkpoint is not None:
        identity = identity_of(module, recipe, seed, data.fingerprint())
        history = load_checkpoint(checkpoint, identity, module, optimizer)
    steps = math.ceil(len(split) / recipe.batch_size) * recipe.epochs
    with progress("training", steps) as advance:
        for number, epoch in enumerate(history, start=1):
            advance(steps // recipe.epochs)
            if on_epoch is not None:
                on_epoch(number, *epoch)
        for number in range(len(history) + 1, recipe.epochs + 1):
            epoch = _epoch(module, optimizer, split, data, recipe, seed, device, number, advance)
            history.append(epoch)
            if checkpoint is not None:
                save_checkpoint(checkpoint, identity, module, optimizer, history)
            if on_epoch is not None:
                on_epoch(number, *epoch)
    module.eval()


def _epoch(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    split: Split,
    data: Data,
    recipe: FloatTraining,
    seed: int,
    device: str,
    number: int,
    advance: Callable[..., None],
) -> Epoch:
    """One pass over the split in random order."""
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(derive_seed(seed, f"train/{number}"))
    order = torch.randperm(len(split), generator=generator).numpy()
    if len(order) % recipe.batch_size == 1:
        order = order[:-1]  # BatchNorm has no variance over a single sample
    per_epoch = math.ceil(len(split) / recipe.batch_size)
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), device=device)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(derive_seed(seed, f"dropout/{number}"))
        for index, (x, y) in enumerate(batches(split, recipe.batch_size, data, order=order)):
            if recipe.augment == "crop_flip":
                x = crop_flip(x, generator)
            x, y = x.to(device), y.to(device)
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate((number - 1) * per_epoch + index, recipe.epochs * per_epoch)
            logits = module(x)
            loss = F.cross_entropy(logits, y, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if recipe.clip_grad is not None:
                nn.utils.clip_grad_norm_(module.parameters(), recipe.clip_grad)
            optimizer.step()
            loss_sum += loss.detach() * len(y)
            correct += (logits.detach().argmax(1) == y).sum()
            if index % CHECK_EVERY == 0:
                _check_finite(loss_sum, recipe, number)
            advance(1)
    _check_finite(loss_sum, recipe, number)
    seconds = time.perf_counter() - start
    return Epoch(loss_sum.item() / len(order), correct.item() / len(order), seconds)


def _check_finite(loss: Tensor, recipe: FloatTraining, epoch: int) -> None:
    if not math.isfinite(loss.item()):
        clip = "" if recipe.clip_grad is not None else ", or limit the gradient with training.clip_grad=1.0"
        raise PipelineError(
            f"the training loss became {loss.item()} in epoch {epoch} of {recipe.epochs}.\n"
            f"Remedy: lower training.learning_rate={recipe.learning_rate:g}{clip}."
        )


def _optimizer(module: nn.Module, recipe: FloatTraining) -> torch.optim.Optimizer:
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "sgd":
        nesterov = recipe.momentum > 0.0
        return torch.optim.SGD(groups, recipe.learning_rate, momentum=recipe.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, recipe.learning_rate, fused=True)
