"""Packed weights: the same tensor back, in the bits that its levels need."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stages.integer.packing import pack, stored_bytes, unpack

TENSORS = st.sampled_from([np.int8, np.uint8]).flatmap(
    lambda dtype: st.integers(1, 8).flatmap(
        lambda bits: arrays(
            dtype,
            array_shapes(max_dims=4, max_side=9),
            elements=st.integers(np.iinfo(dtype).min, np.iinfo(dtype).min + 2**bits - 1),
        )
    )
)


@given(TENSORS)
def test_unpacking_gives_back_what_was_packed(tensor):
    packed = pack(tensor)
    if packed is None:
        assert stored_bytes(tensor) == tensor.nbytes
    else:
        found = unpack(packed)
        assert found.dtype == tensor.dtype and (found == tensor).all()
        assert stored_bytes(tensor) == packed.nbytes < tensor.nbytes


@given(st.integers(2, 7), st.integers(1, 500))
def test_consecutive_levels_take_their_bits_and_a_byte(bits, count):
    """Symmetric weights of b bits, both ends among them: ⌈n·b/8⌉ bytes, and their lowest level."""
    limit = 2 ** (bits - 1) - 1
    rng = np.random.default_rng(count)
    tensor = rng.integers(-limit, limit + 1, count + 200).astype(np.int8)
    tensor[:2] = -limit, limit
    assert stored_bytes(tensor) == -(-(count + 200) * bits // 8) + 1


@given(st.integers(2, 6), st.integers(0, 100))
def test_codebooks_take_their_bits_and_their_levels(bits, seed):
    """2^b levels, far apart: n indices of b bits and the table."""
    rng = np.random.default_rng(seed)
    others = rng.choice(np.arange(-126, 127), 2**bits - 2, replace=False)
    tensor = rng.permutation(np.resize(np.array([-127, *others, 127], np.int8), 2000)).reshape(20, 100)
    assert stored_bytes(tensor) == 2000 * bits // 8 + 2**bits


def test_the_stream_begins_with_low_bits():
    packed = pack(np.array([-7, -6, 0, 7, -7, -7, -7, -7], np.int8))
    assert packed.bits == 4 and packed.levels.tolist() == [-7]
    assert packed.indices.tolist() == [0x10, 0xE7, 0x00, 0x00]


@pytest.mark.parametrize("tensor", [np.zeros(0, np.int8), np.zeros(9, np.int32), np.zeros(1, np.int8)])
def test_what_packing_does_not_help_stays(tensor):
    assert pack(tensor) is None


def test_parts_of_different_tensors_are_refused():
    packed = pack(np.resize(np.array([-100, 0, 3], np.int8), 100))
    with pytest.raises(ValueError, match=r"101 indices of bits=2 do not fit a stream of 25 bytes"):
        unpack(replace(packed, shape=(101,)))
    with pytest.raises(ValueError, match=r"index 2: must be below 2, the number of levels"):
        unpack(replace(packed, levels=packed.levels[:2]))
