"""Seeds. Every stage starts from its own, so that a cached stage before it changes nothing."""

from __future__ import annotations

import hashlib
import random
import sys

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
