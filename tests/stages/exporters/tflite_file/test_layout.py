"""Where elements lie in a TFLite file."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.exporters.tflite_file.layout import IMAGE, TensorLayout


@st.composite
def layouts(draw: st.DrawFn) -> TensorLayout:
    sizes = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    return TensorLayout(
        sizes=sizes, order=tuple(draw(st.permutations(range(len(sizes))))), flat=draw(st.booleans())
    )


def counted(layout: TensorLayout, samples: int = 2) -> np.ndarray:
    """A sample's elements by number, in the program's order."""
    size = math.prod(layout.sizes)
    return np.arange(samples * size).reshape(samples, *layout.sizes)


def test_an_image_has_its_channels_last():
    layout = TensorLayout.usual((3, 4, 5))
    assert layout == TensorLayout(sizes=(3, 4, 5), order=IMAGE)
    assert layout.shape == (4, 5, 3)
    assert (layout.to_file(counted(layout)) == counted(layout).transpose(0, 2, 3, 1)).all()
    assert [layout.axis(axis) for axis in range(3)] == [3, 1, 2]


@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4, 5)])
def test_all_else_lies_as_it_is(shape):
    assert TensorLayout.usual(shape) == TensorLayout.plain(shape)
    assert TensorLayout.plain(shape).in_order


@given(layouts())
def test_there_and_back_is_the_identity(layout):
    plain = counted(layout)
    stored = layout.to_file(plain)
    assert stored.shape[1:] == layout.shape
    assert (layout.from_file(stored, layout.sizes) == plain).all()
    assert layout.in_order == (stored.reshape(-1) == plain.reshape(-1)).all()


@given(layouts(), st.data())
def test_a_permutation_is_the_same_tensor(layout, data):
    layout = TensorLayout(sizes=layout.sizes, order=layout.order)
    axes = tuple(data.draw(st.permutations(range(len(layout.sizes)))))
    plain = counted(layout)
    permuted = plain.transpose(0, *(axis + 1 for axis in axes))
    assert (layout.permute(axes).to_file(permuted) == layout.to_file(plain)).all()


@given(layouts(), st.data())
def test_what_merges_is_the_same_tensor(layout, data):
    """Any shape of as many elements: a layout, where there is one, leaves every element in place."""
    parts = data.draw(st.lists(st.booleans(), min_size=len(layout.sizes) - 1, max_size=len(layout.sizes) - 1))
    shape = [layout.sizes[0]]
    for size, joined in zip(layout.sizes[1:], parts, strict=True):
        shape[-1:] = [shape[-1] * size] if joined else [shape[-1], size]
    merged = layout.merge(tuple(shape))
    plain = counted(layout)
    if merged is None:
        assert any(parts) or 1 in layout.sizes
        return
    stored = merged.to_file(plain.reshape(len(plain), *shape))
    assert (stored.reshape(-1) == layout.to_file(plain).reshape(-1)).all()


def test_rows_of_pixels_stay_in_place_and_what_must_move_has_no_layout():
    image = TensorLayout.usual((8, 3, 4))
    assert image.merge((8, 12)) == TensorLayout(sizes=(8, 12), order=(1, 0))
    assert image.merge((24, 4)) is None
    assert image.merge((96,)) is None


def test_a_flattened_image_says_where_each_element_is():
    flat = TensorLayout(sizes=(8, 3, 4), order=IMAGE, flat=True)
    assert flat.shape == (96,)
    assert flat.merge((8, 3, 4)) == TensorLayout.usual((8, 3, 4))
