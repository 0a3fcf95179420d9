"""A part of the training split that is not trained on, and early stopping by it.

The test split takes no part: what is chosen by looking at it is no longer measured by it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.seed import derive_seed
from stages.data.base import Data, Split
from stages.data.batches import batches
from stages.data.files import written_atomically
from stages.tasks.base import Task
from stages.training.checkpoint import digest_of

Rows = NDArray[np.int64]


def hold_out(split: Split, share: float, seed: int) -> tuple[Rows, Rows]:
    """Indices to train on and indices held out, both ascending; the draw depends on seed and size alone."""
    rows = np.arange(len(split), dtype=np.int64)
    count = round(share * len(split))
    held = np.random.default_rng(derive_seed(seed, "held out")).choice(rows, size=count, replace=False)
    return np.setdiff1d(rows, held), np.sort(held)


def quality(
    module: nn.Module, split: Split, data: Data, rows: Rows, task: Task, device: str = "cpu"
) -> float:
    """The task's figure (`Task.batched`) on the given rows, in evaluation mode; NaN where there are none.

    Leaves the mode as it was.
    """
    if not len(rows):
        return math.nan
    training = module.training
    module.eval()
    tallies = []
    with torch.inference_mode():
        for x, y in batches(split, 256, data, order=rows):
            tallies.append(task.tally(module(x.to(device)), y.to(device)))
    module.train(training)
    return task.score(torch.stack(tallies).sum(0))


def best_epoch(gains: Sequence[float], first: int) -> int:
    """Number (from 1) of the best epoch among those from `first` on, the earliest of equals; 0 for none.

    Args:
        gains: after each epoch, larger being better.
        first: the first epoch that counts.
    """
    candidates = range(max(first, 1), len(gains) + 1)
    return max(candidates, key=lambda number: (gains[number - 1], -number), default=0)


class Kept:
    """The weights of one epoch, beside a checkpoint or, where there is none, in memory."""

    def __init__(self, checkpoint: Path | None) -> None:
        self._file = None if checkpoint is None else checkpoint.with_suffix(".best.safetensors")
        self._tensors: dict[str, Tensor] = {}

    def keep(self, module: nn.Module) -> None:
        """Remember the module as it is."""
        tensors = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in module.state_dict().items()
        }
        if self._file is None:
            self._tensors = tensors
            return
        with written_atomically(self._file) as temporary:
            save_file(tensors, temporary, metadata={"sha256": digest_of(tensors)})

    def restore(self, module: nn.Module) -> None:
        """Put back what was kept.

        Raises:
            PipelineError: its file is damaged; it and the checkpoint are removed, and training begins anew.
        """
        if self._file is None:
            module.load_state_dict(self._tensors)
            return
        try:
            with safe_open(self._file, framework="pt") as stored:
                digest = (stored.metadata() or {}).get("sha256")
            tensors = load(self._file.read_bytes())
            if digest != digest_of(tensors):
                raise ValueError("its sha256 is not that of what it holds")
        except (OSError, SafetensorError, ValueError) as error:
            for file in self._file.parent.glob(f"{self._file.name.partition('.')[0]}.*"):
                file.unlink()
            raise PipelineError(
                f"{self._file}: the best epoch's weights are damaged ({error}). Remedy: the same command "
                "again, which trains anew"
            ) from error
        module.load_state_dict(tensors)
