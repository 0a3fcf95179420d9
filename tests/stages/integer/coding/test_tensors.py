"""Weights come back to the bit, however they are laid out, and structure is made use of."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from stages.integer.coding.lanes import DecisionDecoder, DecisionEncoder
from stages.integer.coding.tensors import WeightModel, code_weight, layout_of


def through(weights, zero=0, steps=60):
    layouts = [layout_of(weight, zero, steps) for weight in weights]
    encoder, model = DecisionEncoder(), WeightModel()
    for weight, layout in zip(weights, layouts, strict=True):
        code_weight(encoder, model, layout, weight)
    data = encoder.finish(bytes(2 * encoder.lanes))
    decoder, model = DecisionDecoder(data, encoder.lanes), WeightModel()
    for weight, layout in zip(weights, layouts, strict=True):
        found = code_weight(decoder, model, layout, None)
        assert found.dtype == weight.dtype and found.flags.c_contiguous
        assert (found == weight).all() and found.shape == weight.shape
    decoder.finish()
    return encoder.bits(0, encoder.steps) / 8, layouts


def sparse(seed, shape, share, levels):
    rng = np.random.default_rng(seed)
    return (rng.choice(levels, shape) * (rng.random(shape) < share)).astype(np.int8)


@settings(max_examples=60, deadline=None)
@given(
    shape=array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=9),
    share=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    levels=st.lists(st.integers(-128, 127), min_size=1, max_size=20),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_weight_comes_back(shape, share, levels, seed):
    through([sparse(seed, shape, share, levels), sparse(seed + 1, shape, share, levels)])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_a_zero_point_is_left_out_as_zero_is(dtype):
    rng = np.random.default_rng(0)
    zero, levels = (-7, [-128, 90]) if dtype == np.int8 else (128, [0, 255])
    weight = np.where(rng.random((40, 90)) < 0.1, rng.choice(levels, (40, 90)), zero).astype(dtype)
    size, (layout,) = through([weight], zero=zero)
    assert layout.zero == zero and size < 300


def test_all_levels_of_8_bits():
    through([np.arange(-128, 128, dtype=np.int8).reshape(2, 128)])


def test_random_zeros_take_their_entropy():
    weight = sparse(0, (100, 300), 0.1, [-1, 1])
    share = (weight != 0).mean()
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) * weight.size + (weight != 0).sum()
    size, _ = through([weight])
    assert 0.97 < size / (entropy / 8) < 1.03


def test_rows_and_columns_of_zeros_and_pixels_beside_each_other_take_less():
    rng = np.random.default_rng(1)
    image = np.zeros((40, 28, 28), np.int8)
    for unit in image[::2]:  # a patch of one sign for each second unit
        y, x = rng.integers(2, 20, 2)
        unit[y : y + 6, x : x + 6] = rng.choice([-1, 1]) * (rng.random((6, 6)) < 0.8)
    weight = image.reshape(40, 784)
    shuffled = rng.permutation(weight.ravel()).reshape(weight.shape)
    (size, (layout,)), (without, _) = through([weight], steps=800), through([shuffled], steps=800)
    assert layout.order == "inputs" and layout.lag == 28 and layout.signs
    assert size < 0.6 * without
