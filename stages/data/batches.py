"""From a split to batches of float32.

Images, uint8 (N, C, H, W), become ``(image / 255 − mean) / std``. All other numbers keep their values,
integers exactly below 2^24, and become ``(x − mean) / std`` where there are constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.seed import derive_seed
from stages.data.base import Data, Split


def is_image(inputs: NDArray[Any]) -> bool:
    """Whether these are pixels, 0 .. 255: uint8 (N, C, H, W)."""
    return inputs.dtype == np.uint8 and inputs.ndim == 4


def normalize(inputs: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """``(x − mean) / std`` per channel, float32 of the same shape and device.

    Args:
        inputs: uint8 (B, C, H, W), of which x is a 255th; or any other numbers (B, C, …), which are x.
        mean: one a channel, or one for all; empty for 0.
        std: one a channel, or one for all; empty for 1.
    """
    x = inputs.to(torch.float32)
    if inputs.dtype == torch.uint8 and inputs.ndim == 4:
        x = x.div_(255.0)
    if len(mean):
        x = x - _per_channel(mean, x)
    return x / _per_channel(std, x) if len(std) else x


def input_dtype(data: Data) -> torch.dtype:
    """What a network takes: int64 where inputs are tokens, else float32. Batches and graphs are float32."""
    return torch.int64 if getattr(data, "tokens", False) else torch.float32


def channels_last(x: Tensor) -> Tensor:
    """Images in the layout in which convolution and BatchNorm are fastest on a CPU; all else as it is."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def batches(
    split: Split, batch_size: int, data: Data, order: NDArray[np.int64] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, y), x float32 (B, …) normalized with `data`'s constants, y int64 or float32 (B, …).

    Args:
        split: where samples come from; a memory-mapped one is read batch by batch.
        batch_size: B; the last batch holds what is left.
        data: the data set that `split` belongs to.
        order: indices into `split`, in the order to yield them; None for all, as they lie.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    dtype = np.uint8 if is_image(split.images) else np.float32
    total = len(split) if order is None else len(order)
    for start in range(0, total, batch_size):
        here = slice(start, start + batch_size)
        rows = here if order is None else order[here]
        # np.array copies: torch must not share memory with a read-only memory map
        inputs = np.array(split.images[rows], dtype=dtype, order="C")
        labels = np.array(split.labels[rows], order="C")
        yield normalize(torch.from_numpy(inputs), data.mean, data.std), torch.from_numpy(labels)


def calibration_subset(split: Split, samples: int, seed: int) -> NDArray[np.int64]:
    """Draw the samples that calibration observes, in the order of the draw; all where there are fewer.

    Splits lie class by class, and batches should not: each is a draw across classes, so that no statistic of
    batches depends on which class comes first. The draw depends on `seed` and the split's size alone.
    """
    return _drawn(len(split), samples, seed, "calibration")


def subset(population: Sized, samples: int, seed: int, purpose: str) -> NDArray[np.int64]:
    """Draw `samples` indices into `population` without replacement, ascending; all where it has fewer.

    The draw depends on `seed`, `purpose` and the population's size alone.
    """
    return np.sort(_drawn(len(population), samples, seed, purpose))


def _drawn(population: int, samples: int, seed: int, purpose: str) -> NDArray[np.int64]:
    """The indices in the order in which they are drawn."""
    if samples < 1:
        raise ValueError(f"samples={samples}: must be at least 1")
    generator = np.random.default_rng(derive_seed(seed, purpose))
    return generator.choice(population, size=min(samples, population), replace=False).astype(np.int64)


def _per_channel(values: Sequence[float], x: Tensor) -> Tensor:
    constants = torch.tensor(values, dtype=torch.float32, device=x.device)
    return constants.reshape(-1, *[1] * (x.ndim - 2))
