"""Bytes of scratch memory that CMSIS-NN's functions want, by what the processor has.

The formulas are those of the functions ``…_get_buffer_size`` of CMSIS-NN 19.1
(arm_convolve_get_buffer_sizes_s8.c, arm_depthwise_conv_get_buffer_sizes_s8.c,
arm_avgpool_get_buffer_sizes_s8.c). Where one depends on the compiler, the larger size is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CHANNELS_AT_ONCE = 124
"""Channels that a depthwise convolution takes at once with MVE (CH_IN_BLOCK_MVE)."""


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Bytes with MVE (Cortex-M55, M85), with the DSP extension alone (M4, M7, M33), and with neither."""

    mve: int = 0
    dsp: int = 0
    plain: int = 0


@dataclass(frozen=True, kw_only=True)
class ConvolutionWindows:
    """What a convolution's windows are, in rows and columns.

    Args:
        image: the input's size.
        kernel: the window's.
        stride: from one window to the next.
        padding: before the image.
        dilation: from one tap to the next.
        outputs: how many windows there are.
    """

    image: Sequence[int]
    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]
    outputs: Sequence[int]

    @property
    def pointwise(self) -> bool:
        """Whether windows are pixels, none outside the image (arm_nn_is_convolve_1x1)."""
        same = all(tuple(pair) == (1, 1) for pair in (self.kernel, self.dilation))
        return same and not any(self.padding)

    def along_a_row(self, channels: int) -> bool:
        """Whether images and windows are rows (arm_nn_is_convolve_1_x_n)."""
        flat = self.image[0] == self.kernel[0] == self.dilation[1] == 1
        return flat and self.stride[1] * channels % 4 == 0

    @property
    def fills_the_row(self) -> bool:
        """Whether the windows of a row neither reach out of it nor leave columns at its end."""
        reach = (self.outputs[1] - 1) * self.stride[1] + self.kernel[1]
        return not any(self.padding) and reach == self.image[1]


def convolution(windows: ConvolutionWindows, channels: int) -> Scratch:
    """What arm_convolve_s8 wants: columns of the image's matrix, four of int8 with MVE, else two of int16."""
    taps = channels * math.prod(windows.kernel)
    two = 2 * 2 * _up(taps, 4)
    return Scratch(mve=4 * _up(taps, 16), dsp=two, plain=two)


def wrapped_convolution(windows: ConvolutionWindows, channels: int) -> Scratch:
    """What arm_convolve_wrapper_s8 wants; windows along a row fill it."""
    if windows.pointwise:
        fast = tuple(windows.stride) == (1, 1)
        return Scratch(dsp=2 * 2 * channels if fast else 0)
    whole = convolution(windows, channels)
    if windows.along_a_row(channels):
        return Scratch(mve=windows.kernel[1] * channels, dsp=whole.dsp, plain=whole.plain)
    return whole


def depthwise(windows: ConvolutionWindows, channels: int, outputs: int) -> Scratch:
    """What arm_depthwise_conv_wrapper_s8 wants: it has quick ways where each channel gives one, undilated.

    From a single channel that gives several it makes an ordinary convolution with MVE: such layers are
    written as ordinary convolutions.
    """
    if channels != outputs or tuple(windows.dilation) != (1, 1):
        return Scratch()
    taps = math.prod(windows.kernel)
    three = tuple(windows.kernel) == (3, 3) and max(windows.padding) <= 1
    return Scratch(mve=4 * CHANNELS_AT_ONCE * taps, dsp=0 if three else 2 * channels * taps)


def average_pool(channels: int) -> Scratch:
    """What arm_avgpool_s8 wants: sums of a pixel's channels."""
    return Scratch(dsp=4 * channels)


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
