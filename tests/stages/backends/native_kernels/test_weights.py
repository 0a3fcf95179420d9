import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.native_kernels.weights import bias, levels, pack, pack_depthwise, pack_twos
from stages.integer.program import Op


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 150),
    st.integers(1, 9),
    st.sampled_from([(1, 1), (3, 2)]),
    st.sampled_from([4, 2]),
    st.integers(0, 99),
)
def test_packed_weights_stand_where_the_engine_looks(
    outputs: int, inputs: int, kernel: tuple[int, int], together: int, seed: int
) -> None:
    """Block by block: kernel row, kernel column, inputs, vector, output in it, input; zeros beyond."""
    weight = np.random.default_rng(seed).integers(-128, 128, (outputs, inputs, *kernel))
    packed = iter((pack(weight) if together == 4 else pack_twos(weight).view(np.int16)).tolist())
    vectors, first = -(-outputs // 16), 0
    while first < vectors:
        block = 4 if vectors - first >= 4 else 2 if vectors - first >= 2 else 1
        for row in range(kernel[0]):
            for column in range(kernel[1]):
                for i in range(0, -(-inputs // 4) * 4, together):
                    for vector in range(first, first + block):
                        for o in range(16 * vector, 16 * vector + 16):
                            for k in range(i, i + together):
                                inside = o < outputs and k < inputs
                                assert next(packed) == (weight[o, k, row, column] if inside else 0)
        first += block
    assert next(packed, None) is None


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 130), st.sampled_from([1, 3, 5, 8]), st.integers(1, 4), st.integers(0, 99))
def test_passes_of_depthwise_weights_add_up(channels: int, height: int, width: int, seed: int) -> None:
    """Weights less their zero point take 9 bits; int8 addends give them back, channel by channel."""
    centred = np.random.default_rng(seed).integers(-255, 256, (channels, 1, height, width))
    packed, passes = pack_depthwise(centred)
    groups = -(-height // 4)
    shaped = packed.reshape(-1, passes, width, groups, 4, 4, 4, 4).astype(int).sum(axis=1)
    for c in range(channels):
        block, lane, vector, place = c // 64, c % 64 // 16, c % 16 // 4, c % 4
        found = shaped[block, :, :, vector, lane, place].reshape(width, 4 * groups)[:, :height]
        assert (found == centred[c, 0].T).all()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("input_zero_point", [0, 7, 255])
def test_the_bias_takes_up_zero_points(dtype: type, input_zero_point: int) -> None:
    """Σ (qx−zx)(qw−zw) + b = Σ qx·qw − zw·Σ qx + bias, over shifted weights."""
    rng = np.random.default_rng(0)
    weight = rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, (5, 6)).astype(dtype)
    tensors = {
        "weight": weight,
        "weight_zero_point": rng.integers(0, 100, 5).astype(np.int32),
        "bias": rng.integers(-1000, 1000, 5).astype(np.int32),
    }
    op = Op(op="linear", inputs=("x",), output="y", tensors=tensors)
    shifted, zero_point = levels(op)
    assert shifted.min() >= -128
    assert shifted.max() <= 127
    x = rng.integers(0, 256, 6)
    centred = weight.astype(int) - tensors["weight_zero_point"][:, None]
    expected = centred @ (x - input_zero_point) + tensors["bias"]
    constants = bias(op, shifted, zero_point, input_zero_point)
    found = shifted[:, :, 0, 0] @ x - zero_point * x.sum() + constants[:5]
    assert (found == expected).all()
    assert not constants[5:].any()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_zero_points_vanish_where_int8_holds_what_is_left(dtype: type) -> None:
    """Channel by channel: weights of few bits, and some of 8; the others keep theirs."""
    middle = 0 if dtype == np.int8 else 128
    weight = np.array([[-2, 1], [-128, 127], [-100, 100], [-128, 100]]) + middle
    zero_point = np.array([-1, 0, 27, 28]) + middle
    op = Op(
        op="linear",
        inputs=("x",),
        output="y",
        tensors={"weight": weight.astype(dtype), "weight_zero_point": zero_point.astype(np.int32)},
    )
    found, left = levels(op)
    assert (found[:, :, 0, 0] - left[:, None] == weight - zero_point[:, None]).all()
    assert left.tolist() == [0, 0, 0, 28]
    assert found.min() >= -128 and found.max() <= 127
