"""Noise for stochastic rounding, ``ε ~ U(−½, ½)`` in steps of the grid: ``round(x/Δ + ε)`` is x/Δ on average.

Noise is a function of seed, name and draw, not the state of a generator: a training that resumes draws what
it would have drawn, and simulation and program draw the same for a weight.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def uniform_noise(like: Tensor, seed: int, name: str, draw: int = 0) -> Tensor:
    """ε of `like`'s shape and device, float32 in [−½, ½).

    Args:
        like: the tensor to be rounded.
        seed: of the quantizer.
        name: of what is rounded: noise of different tensors is independent.
        draw: number of the draw.
    """
    digest = hashlib.blake2b(f"{seed}|{name}|{draw}".encode(), digest_size=8).digest()
    generator = torch.Generator(like.device).manual_seed(int.from_bytes(digest, "little") >> 1)
    return torch.rand(like.shape, generator=generator, device=like.device).sub_(0.5)


def dithered(x: Tensor, scale: Tensor, noise: Tensor) -> Tensor:
    """``x + ε·Δ``, which rounds to the nearest level as x does stochastically; `scale` broadcasts."""
    return torch.addcmul(x, noise, scale)
