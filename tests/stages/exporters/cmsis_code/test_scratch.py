"""Sizes of scratch memory are those that CMSIS-NN 19.1's own functions give (figures taken from them)."""

from __future__ import annotations

import pytest

from stages.exporters.cmsis_code.scratch import (
    ConvolutionWindows,
    Scratch,
    average_pool,
    convolution,
    depthwise,
    wrapped_convolution,
)


def windows(image, kernel, outputs, stride=(1, 1), padding=(0, 0), dilation=(1, 1)) -> ConvolutionWindows:
    return ConvolutionWindows(
        image=image, kernel=kernel, stride=stride, padding=padding, dilation=dilation, outputs=outputs
    )


@pytest.mark.parametrize(
    ("found", "sizes"),
    [
        (wrapped_convolution(windows((9, 6), (1, 3), (3, 2), (3, 2), (0, 1), (1, 2)), 22), (320, 272, 272)),
        (wrapped_convolution(windows((1, 8), (1, 3), (1, 2), (2, 3), (0, 1), (2, 2)), 11), (192, 144, 144)),
        (wrapped_convolution(windows((5, 10), (1, 1), (2, 4), (3, 3)), 7), (0, 0, 0)),
        (wrapped_convolution(windows((1, 9), (1, 3), (1, 4), (1, 2)), 8), (24, 96, 96)),
        (depthwise(windows((5, 6), (1, 1), (5, 2), (1, 3)), 34, 34), (496, 68, 0)),
        (depthwise(windows((9, 13), (3, 3), (4, 7), (2, 2), (0, 1)), 36, 36), (4464, 0, 0)),
        (depthwise(windows((1, 9), (3, 3), (1, 3), (3, 3), (1, 1)), 25, 50), (0, 0, 0)),
        (average_pool(24), (0, 96, 0)),
    ],
)
def test_sizes_are_the_librarys(found, sizes):
    assert found == Scratch(mve=sizes[0], dsp=sizes[1], plain=sizes[2])


def test_pointwise_convolutions_have_room_for_every_compiler():
    """armclang's wants two columns of int16 with DSP, gcc's nothing."""
    assert wrapped_convolution(windows((5, 5), (1, 1), (5, 5)), 7) == Scratch(dsp=28)


def test_rows_that_windows_do_not_fill_are_told():
    """There, arm_convolve_1_x_n_s8 gives up where padding is not TFLite's."""
    assert windows((1, 9), (1, 3), (1, 4), (1, 2)).fills_the_row
    assert not windows((1, 10), (1, 3), (1, 4), (1, 2)).fills_the_row
    assert not windows((1, 9), (1, 3), (1, 9), padding=(0, 1)).fills_the_row
    assert not windows((1, 3), (1, 3), (3, 1), padding=(1, 0)).fills_the_row
    assert convolution(windows((1, 9), (1, 3), (1, 9), padding=(0, 1)), 4) == Scratch(
        mve=64, dsp=48, plain=48
    )
