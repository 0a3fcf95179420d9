"""A checkpoint, of three formats."""

from __future__ import annotations

import io
import random
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from pipeline.errors import PipelineError
from stages.models.weights import load_weights
from tests.fuzzing.changes import real, shaken
from tests.fuzzing.running import said


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


@cache
def _checkpoints() -> tuple[tuple[str, bytes], ...]:
    state = _network().state_dict()
    found = [("a.safetensors", save(state))]
    for legacy in (False, True):
        for extra in ({}, {"epoch": 3, "array": np.arange(3)}):
            buffer = io.BytesIO()
            held = {"state_dict": state, **extra} if extra else state
            torch.save(held, buffer, _use_new_zipfile_serialization=not legacy)
            found.append(("a.pt", buffer.getvalue()))
    return tuple(found)


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
    name, content = rng.choice(_checkpoints())
    (folder / name).write_bytes(shaken(content, rng))
    try:
        module = load_weights(_network(), str(folder / name), "small")
    except PipelineError as error:
        return said(error)
    tensors = [tensor for tensor in module.state_dict().values() if tensor.dim()]
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        return "NaN or infinity was taken"
    return "equal" if any(real(tensor.numpy()) for tensor in tensors) else "mistrusted"
