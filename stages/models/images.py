"""What architectures for images ask of the data."""

from __future__ import annotations

from pipeline.errors import PipelineError
from stages.data.base import ImageShape


def require_image(shape: tuple[int, ...], architecture: str) -> ImageShape:
    """`shape` as channels, height and width; `PipelineError` where samples are no images."""
    if len(shape) != 3:
        raise PipelineError(
            f"{architecture} takes images (channels, height, width), and the data's samples are "
            f"{tuple(shape)}.\n"
            "Remedy: a network for such data, as model=lenet300_100 or your own (model=torch model.target=…)."
        )
    channels, height, width = shape
    return channels, height, width
