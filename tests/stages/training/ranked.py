"""Trainings that a test runs in one process, and on several ranks: processes that meet as torchrun's do.

Run as a script, it is one of these ranks, and prints what it has found as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from pipeline.ranks import Ranks
from stages.data.base import Split
from stages.data.batches import batches
from stages.data.digits import Digits
from stages.graph.capture import capture
from stages.quant.estimators.base import Estimator
from stages.quant.estimators.lsq import Lsq
from stages.quant.estimators.pact import Pact
from stages.quant.estimators.ste import Ste
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.tasks.classification import Classification
from stages.training.batch_norm import SharedBatchNorm
from stages.training.checkpoint import Epoch
from stages.training.fit import FloatTraining, fit
from stages.training.qat_network import QatNetwork
from stages.training.qat_objective import Distillation, QatObjective, QatSchedule
from stages.training.ranks import Distributed, ProcessGroup
from tests.quantizing import fused, quantized

ROOT = Path(__file__).parents[3]
ESTIMATORS: dict[str, Estimator] = {
    "ste": Ste(momentum=0.5),
    "pact": Pact(),
    "lsq": Lsq(initial="mean"),
}
COUNT = 46
"""Samples: five batches of nine, and one that two ranks do not divide."""


@dataclass(frozen=True, kw_only=True)
class CountedDigits:
    """The first training digits."""

    name: ClassVar[str] = "counted"
    num_classes: ClassVar[int] = 10
    shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    mean: tuple[float, ...] = (0.3,)
    std: tuple[float, ...] = (0.4,)
    count: int = COUNT

    def train(self) -> Split:
        split = Digits().train()
        return Split(images=split.images[: self.count], labels=split.labels[: self.count])

    test = train

    def check(self) -> None: ...

    def fingerprint(self) -> str:
        return "counted"


def network(classes: int = 10) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6),
        nn.ReLU(), nn.Flatten(), nn.Linear(96, classes),
    )  # fmt: skip


def digest(module: nn.Module) -> str:
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in module.state_dict().items()}
    return hashlib.sha256(save(tensors)).hexdigest()


def trained(
    ranks: Ranks | None, checkpoint: Path | None = None, *, stop: int | None = None
) -> dict[str, Any]:
    """A training in float: what each epoch gave, and the weights; stopped as by a kill after an epoch."""
    recipe = {"epochs": 2, "augment": "crop_flip", "held_out": 0.2, "patience": 2, "learning_rate": 0.05}
    return _fitted(network(), ranks, checkpoint, recipe, None, stop)


def quantized_training(ranks: Ranks | None, estimator: str) -> dict[str, Any]:
    """The same of quantized training that observes ranges, and in which BatchNorm looks at batches."""
    data = CountedDigits()
    model = capture(network().eval(), data.shape)
    x, _ = next(batches(data.train(), 32, data))
    weights = Symmetric(bits=4, signed=True)
    scheme = WeightsAndActivations(weight=weights, activation=Affine(bits=4))
    found = quantized(fused(network().eval(), data.shape), x, scheme=scheme)
    module = QatNetwork(model, found, scheme, ESTIMATORS[estimator])
    objective = QatObjective(
        module,
        QatSchedule(delay=0.34, freeze_observers=0.9, freeze_batch_norm=0.9),
        teacher=lambda x: x,
        distillation=Distillation(),
        task=Classification(),
    )
    return _fitted(module, ranks, None, {"epochs": 1, "learning_rate": 0.01}, objective, None)


def _fitted(
    module: nn.Module,
    ranks: Ranks | None,
    checkpoint: Path | None,
    recipe: dict[str, Any],
    objective: QatObjective | None,
    stop: int | None,
) -> dict[str, Any]:
    seen: list[list[float]] = []

    def record(number: int, epoch: Epoch) -> None:
        seen.append([epoch.loss, epoch.quality, epoch.held_out])
        if number == stop:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        fit(
            module,
            CountedDigits(),
            FloatTraining(batch_size=9, **recipe),
            seed=5,
            ranks=ranks,
            objective=objective,
            checkpoint=checkpoint,
            on_epoch=record,
        )
    state = {name: t.double().reshape(-1).tolist() for name, t in module.state_dict().items()}
    return {"epochs": seen, "digest": digest(module), "state": state}


def batch_norm(group: ProcessGroup, shape: Sequence[int], affine: bool) -> float:
    """How far a shared BatchNorm is from one over the whole batch: values, gradients, moments; relative."""
    generator = torch.Generator().manual_seed(3)
    x, dy = (torch.randn(*shape, generator=generator) * 3 + 5 for _ in range(2))
    first, behind = (len(x) * number // group.size for number in (group.rank, group.rank + 1))

    def computed(own: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        own = own.clone().requires_grad_()
        parameters = [torch.full((shape[1],), 1.5, requires_grad=affine) for _ in range(2)]
        moments = torch.zeros(shape[1]), torch.ones(shape[1])
        y = F.batch_norm(own, *moments, *(parameters if affine else (None, None)), True, 0.3)  # type: ignore[arg-type]
        (y * dy).sum().backward()
        learned = torch.cat([torch.zeros(1) if p.grad is None else p.grad for p in parameters])
        assert own.grad is not None
        return y.detach(), own.grad, torch.cat(moments), learned

    whole = computed(x, dy)
    with SharedBatchNorm(group.add):
        own = computed(x[first:behind], dy[first:behind])
    pairs = [
        (own[0], whole[0][first:behind]),
        (own[1], whole[1][first:behind]),
        (own[2], whole[2]),
        (group.add(own[3]), whole[3]),
    ]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1.0)) for a, b in pairs)


def on_ranks(size: int, folder: Path) -> list[dict[str, Any]]:
    """What each of so many ranks finds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size)}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.stages.training.ranked", str(folder)],
            env={**os.environ, **shared, "RANK": str(rank)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        printed = [process.communicate(timeout=150) for process in processes]
    finally:
        for process in processes:
            process.kill()
    failed = [text for process, (_, text) in zip(processes, printed, strict=True) if process.returncode]
    assert not failed, "\n".join(failed)
    # the last line: gloo of torch 2.8 prints to the standard output too
    return [json.loads(text.splitlines()[-1]) for text, _ in printed]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with Distributed(mode="ddp", timeout=60.0).join() as group:
        assert isinstance(group, ProcessGroup)
        low, high = group.extremes(torch.tensor([1.0, -group.rank]), torch.tensor([0.5, group.rank]))
        found = {
            "agreed": group.agree({"from": [group.rank, None]}),
            "shared": group.share(b"" if group.rank else b"of rank 0").decode(),
            "nothing": group.share(b"").decode(),
            "gathered": [text.decode() for text in group.gather(b"r" * group.rank)],
            "extremes": [low.tolist(), high.tolist()],
            "batch_norm": [
                batch_norm(group, shape, affine)
                for shape, affine in (((7, 3, 2, 5), True), ((5, 4), True), ((9, 2, 6), False))
            ],
            "trained": trained(group, folder / "whole.safetensors"),
            "begun": trained(group, folder / "begun.safetensors", stop=1),
            **{name: quantized_training(group, name) for name in ESTIMATORS},
        }
        if not group.rank:
            shutil.copytree(folder, folder / "kept")
        group.agree()
        found["resumed"] = trained(group, folder / "begun.safetensors")
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
