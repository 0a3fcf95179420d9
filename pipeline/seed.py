"""Seeds. Every stage starts from its own, so that a cached stage before it changes nothing."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def derive_seed(seed: int, name: str) -> int:
    """An independent seed for each `name`: the first 32 bits of ``sha256("seed/name")``.

    Give each consumer of random numbers a generator of its own,
    ``torch.Generator().manual_seed(derive_seed(ctx.seed, "augment"))``.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, numpy and, where the process has loaded it, torch.

    `seed` is 0 .. 2^32-1. The framework never imports torch: a process that has not loaded it by the time
    a stage runs draws no random numbers from it.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the global generator, for libraries that draw from it
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


@contextmanager
def deterministic(enabled: bool) -> Iterator[None]:
    """Have torch choose the same algorithms always, or refuse by name what it has none for; if `enabled`.

    That is half of it: sums in an order that threads decide are the other, for which a run takes one thread.
    On CUDA, cuBLAS reads ``CUBLAS_WORKSPACE_CONFIG`` when it first loads. (PyTorch, Reproducibility)
    """
    torch = sys.modules.get("torch")
    if not enabled or torch is None:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
