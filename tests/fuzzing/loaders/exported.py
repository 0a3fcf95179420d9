"""A .pt2 file: a member of the archive changes, its JSON or its bytes, or the archive does."""

from __future__ import annotations

import io
import json
import random
from functools import cache
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import PipelineError
from stages.models.exported import ExportedModel
from tests.fuzzing.changes import STRANGE, mutate, real, repacked, shaken
from tests.fuzzing.running import said

RAN: list[str] = []
"""What code of a file has called."""

HOSTILE = (
    "__import__('tests.fuzzing.loaders.exported').RAN.append(1)",
    "torch.ops.aten.relu.default",
    "torch.hub.load",
    "os.system",
)

CASES = 40


def prepare() -> None:
    """Make the base now, and not in the first case's time."""
    base()


@cache
def base() -> bytes:
    """An exported network of three layers."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    network = nn.Sequential(*layers, nn.Linear(4, 5)).eval()
    program = torch.export.export(
        network, (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _changed(name: str, content: bytes, rng: random.Random) -> bytes:
    if not name.endswith(".json") or rng.random() < 0.3:
        return shaken(content, rng)
    document = json.loads(content)
    mutate(document, rng, (*STRANGE, *HOSTILE))
    return json.dumps(document).encode()


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
    content = base()
    if rng.random() < 0.8:
        content = repacked(content, rng, lambda name, held: _changed(name, held, rng))
    else:
        content = shaken(content, rng)
    path = folder / "net.pt2"
    path.write_bytes(content)
    try:
        module = ExportedModel(path=str(path)).build((3, 8, 8), 5)
    except PipelineError as error:
        return "a file's code ran" if RAN else said(error)
    if RAN:
        return "a file's code ran"
    try:
        with torch.inference_mode():
            out = module(torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    except (ValueError, RuntimeError, IndexError, TypeError):
        return "refused"  # as any module that does not fit its data: capture names the layer
    return "equal" if isinstance(out, torch.Tensor) and real(out.numpy()) else "mistrusted"
