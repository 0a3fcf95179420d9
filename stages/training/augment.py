"""Random crops and flips of a batch, each image its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.errors import PipelineError

PADDING = 8
"""Images are padded by an eighth of their side: 4 pixels of 32, as is usual for CIFAR-10."""


def crop_flip(x: Tensor, generator: torch.Generator, first: int = 0, of: int | None = None) -> Tensor:
    """Shift each image by up to an eighth of its side and mirror it with probability ½.

    What is shifted in is 0, the mean pixel of a normalized batch.

    Returns float32 (B, C, H, W), channels-last in memory.

    Args:
        x: float32 (B, C, H, W).
        generator: on the CPU; three draws a batch.
        first: the number of the first of these images in their batch.
        of: how many the batch has; None for as many as `x`. Each image gets the same draw, whichever part of
            its batch it comes with.

    Raises:
        PipelineError: what are no images.
    """
    if x.ndim != 4:
        raise PipelineError(
            f"training.float.augment=crop_flip: moves images (N, C, H, W), and the data's samples are "
            f"{tuple(x.shape[1:])}.\nRemedy: training.float.augment=none."
        )
    count, _, height, width = x.shape
    of, here = count if of is None else of, slice(first, first + count)
    pad_y, pad_x = height // PADDING, width // PADDING
    top = torch.randint(0, 2 * pad_y + 1, (of, 1), generator=generator)[here]
    left = torch.randint(0, 2 * pad_x + 1, (of, 1), generator=generator)[here]
    mirrored = torch.rand((of, 1), generator=generator)[here] < 0.5
    column = torch.arange(width).expand(count, width)
    rows = top + torch.arange(height)
    columns = left + torch.where(mirrored, width - 1 - column, column)
    padded = F.pad(x, (pad_x, pad_x, pad_y, pad_y))
    image = torch.arange(count)[:, None, None]
    # indices on both sides of a full slice put the indexed dimensions first: (B, H, W, C)
    picked = padded[image, :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)
