"""A training that ranks divide: each takes its share of every batch, all take the same step.

The batches are those of one process: order, augmentation and their size. Rank r of R has the samples
``[r·n/R, (r+1)·n/R)`` of a batch of n, and the loss of the batch is the mean of the ranks' losses, weighted
by their samples::

    L = Σ_r n_r / n · L_r,    ∂L/∂w = Σ_r ∂(n_r / n · L_r)/∂w

so that a step differs from that of one process by the order of its sums alone, wherever a loss is a mean over
samples; one that compares samples with each other compares those of a share. One flat tensor carries all
gradients.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.errors import PipelineError
from pipeline.ranks import Ranks
from stages.training.batch_norm import SharedBatchNorm
from stages.training.checkpoint import Epoch, load_checkpoint
from stages.training.ranks import ProcessGroup


class Share(NamedTuple):
    """What a rank has of a batch: its rows, where they begin in the batch, and how many that has."""

    rows: NDArray[np.int64]
    first: int
    of: int


class Shares:
    """This rank's part in a training; of a single process all of it, computed as if there were no ranks.

    Args:
        ranks: of the run.
    """

    def __init__(self, ranks: Ranks | None) -> None:
        self.group = ranks if isinstance(ranks, ProcessGroup) and ranks.size > 1 else None
        self.rank, self.size = (self.group.rank, self.group.size) if self.group else (0, 1)

    @property
    def leads(self) -> bool:
        """Whether this rank writes."""
        return self.rank == 0

    def usable(self, order: NDArray[np.int64], batch_size: int) -> NDArray[np.int64]:
        """The samples without the last ones, where those are fewer than a step needs.

        BatchNorm has no variance over a single sample, and each rank has a sample of its own.

        Raises:
            PipelineError: there are fewer samples than ranks, or only one, which is no batch.
        """
        if len(order) < self.size:
            raise PipelineError(
                f"{len(order)} samples to train on, for {self.size} ranks: each needs one. Remedy: "
                f"--nproc-per-node={max(len(order), 1)}, or more samples"
            )
        rest = len(order) % batch_size
        used = order[:-rest] if 0 < rest < max(2, self.size) else order
        if not len(used):
            raise PipelineError(
                f"data.train: {len(order)} sample to train on, and a batch needs 2, as BatchNorm has no "
                "variance over one. Remedy: more samples, or model.weights=… in the place of training"
            )
        return used

    def of(self, order: NDArray[np.int64], batch_size: int) -> Iterator[Share]:
        """This rank's share of each batch."""
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            first, behind = (len(rows) * number // self.size for number in (self.rank, self.rank + 1))
            yield Share(rows[first:behind], first, len(rows))

    def normalizing(self) -> AbstractContextManager[object]:
        """While a loss is computed: BatchNorm by the statistics of the whole batch."""
        return nullcontext() if self.group is None else SharedBatchNorm(self.group.add)

    def backward(self, loss: Tensor, parameters: Iterable[nn.Parameter], share: float) -> Tensor:
        """Give all parameters the gradient of the whole batch's loss, and return that, detached.

        Args:
            loss: of this rank's samples, shape ().
            parameters: of the network; those that no rank's loss reaches keep a gradient of None.
            share: of the batch's samples, in (0, 1].
        """
        if self.group is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        loss = loss * share
        loss.backward()  # type: ignore[no-untyped-call]
        learned = [p for p in parameters if p.requires_grad]
        reached = loss.new_tensor([float(p.grad is not None) for p in learned])
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
        flat = torch.cat([loss.detach().reshape(1), reached, *(part.reshape(-1) for part in parts)])
        self.group.add(flat)
        found = torch.split(flat[1 + len(learned) :], [p.numel() for p in learned])
        for parameter, gradient, count in zip(learned, found, flat[1:].tolist(), strict=False):
            parameter.grad = gradient.view_as(parameter).clone() if count else None
        return flat[0]

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks."""
        return tensor if self.group is None else self.group.add(tensor)

    def adopt(self, module: nn.Module) -> None:
        """Give the module rank 0's tensors: ranks cannot drift apart, whatever the module computes."""
        if self.group is None:
            return
        for tensor in module.state_dict().values():
            whole = tensor.detach().contiguous()
            self.group.spread(whole)
            tensor.copy_(whole)

    def resume(
        self, checkpoint: Path, identity: str, module: nn.Module, optimizer: torch.optim.Optimizer
    ) -> list[Epoch]:
        """What rank 0 finds at `checkpoint`, restored on all ranks; see `load_checkpoint`."""
        if self.group is None:
            return load_checkpoint(checkpoint, identity, module, optimizer)
        history = load_checkpoint(checkpoint, identity, module, optimizer, self.size) if self.leads else []
        done = self.group.agree(len(history))
        if not done:
            return []
        data = self.group.share(checkpoint.read_bytes() if self.leads else b"")
        if self.leads:
            return history
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
            copy = Path(folder) / "state.safetensors"
            copy.write_bytes(data)
            history = load_checkpoint(copy, identity, module, optimizer, self.size)
        if len(history) != done:
            raise PipelineError(
                f"rank {self.rank} does not take rank 0's checkpoint, and would train something else. "
                "Remedy: the same code, data and libraries on every machine"
            )
        return history
