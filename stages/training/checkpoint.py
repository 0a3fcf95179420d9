"""A training's state after an epoch, in one file: tensors as safetensors, the rest as JSON in its header."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor, nn

from stages.data.files import written_atomically

log = logging.getLogger(__name__)

KEY = "training"


class Epoch(NamedTuple):
    """What one epoch gave.

    Mean loss, the task's figure (`Task.batched`) on training samples as they passed by, its duration, the
    learning rate of its last step, and the figure on held-out samples after it (NaN where none are held out).
    """

    loss: float
    quality: float
    seconds: float
    learning_rate: float = math.nan
    held_out: float = math.nan


def identity_of(module: nn.Module, *settings: object) -> str:
    """A sha256 over `settings`, by their repr, and all tensors of `module`: what a training starts from."""
    tensors = {name: tensor.cpu().clone() for name, tensor in module.state_dict().items()}
    return hashlib.sha256(repr(settings).encode() + save(tensors)).hexdigest()


def save_checkpoint(
    file: Path,
    identity: str,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
    ranks: int = 1,
) -> None:
    """Write the state after ``len(history)`` epochs on so many ranks; the file is replaced whole."""
    tensors = {f"module|{name}": tensor for name, tensor in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer|{index}|{name}": t for name, t in state.items() if isinstance(t, Tensor)}
    copies = {
        name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    document = json.dumps(
        {"identity": identity, "history": history, "ranks": ranks, "sha256": digest_of(copies, history)}
    )
    with written_atomically(file) as temporary:
        save_file(copies, temporary, metadata={KEY: document})


def load_checkpoint(
    file: Path, identity: str, module: nn.Module, optimizer: torch.optim.Optimizer, ranks: int = 1
) -> list[Epoch]:
    """Restore `module` and `optimizer` and return the epochs done.

    Where there is no file, or one of another training (`identity`), nothing changes and the list is empty. A
    training goes on on another number of `ranks` too; the log then says that its bits are neither's.
    """
    if not file.is_file():
        return []
    try:
        with safe_open(file, framework="pt") as stored:
            document: dict[str, Any] = json.loads((stored.metadata() or {}).get(KEY, "{}"))
            if document.get("identity") != identity:
                log.warning("%s belongs to another training; starting anew", file)
                return []
            tensors = {name: stored.get_tensor(name).clone() for name in stored.keys()}  # noqa: SIM118
        history = [Epoch(*values) for values in document["history"]]
        if document.get("sha256") != digest_of(tensors, history):
            raise ValueError("its sha256 is not that of what it holds")
        if (before := document.get("ranks", 1)) != ranks:
            log.warning(
                "the training goes on after %d epochs, on %d ranks instead of %d: its sums have another "
                "order from here on, and its weights are not to the bit those of either number",
                len(history),
                ranks,
                before,
            )
    except (OSError, KeyError, TypeError, SafetensorError, ValueError) as error:
        log.warning("%s is not readable (%s); starting anew", file, error)
        return []
    weights = {}
    state: defaultdict[int, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in tensors.items():
        kind, _, name = key.partition("|")
        if kind == "module":
            weights[name] = tensor
        else:
            index, _, name = name.partition("|")
            state[int(index)][name] = tensor
    module.load_state_dict(weights)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": dict(state), "param_groups": groups})
    return history


def digest_of(tensors: Mapping[str, Tensor], history: Sequence[Epoch] = ()) -> str:
    """sha256 over a state on the CPU: one that a disk or a hand changed would give other weights."""
    digest = hashlib.sha256(json.dumps(history).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
