"""Which values share a scale: shapes, and that slices do not see each other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.base import Granularity
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.granularity.per_tensor import PerTensor
from stages.quant.qparams import fake_quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.weights import weight_qparams

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)
QUANTIZERS = st.one_of(
    st.builds(Affine, bits=st.integers(2, 8), signed=st.just(True)),
    st.builds(Symmetric, bits=st.integers(2, 8), signed=st.just(True)),
)


@given(SHAPES)
def test_observations_group_what_shares_a_scale(shape):
    """(n, *qparam_shape, m) holds every value once, slice o of dimension 0 in slot o."""
    x = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
    assert torch.equal(PerTensor().to_observations(x).flatten(), x.flatten())
    observations = PerChannel().to_observations(x)
    assert observations.ndim == 3
    for o, channel in enumerate(x):
        assert torch.equal(observations[:, o].flatten(), channel.flatten())


@given(SHAPES, QUANTIZERS, st.integers(0, 2**32 - 1))
def test_per_channel_equals_a_loop_over_slices(shape, quantizer, seed):
    """Granularity equals a per-slice loop: a channel is quantized as if it were alone."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * torch.logspace(-3, 3, shape[0]).reshape(
        -1, *[1] * (len(shape) - 1)
    )

    def quantized(x, granularity):
        qparams = weight_qparams(x, None, torch.tensor(1.0), quantizer, MinMax(), granularity)
        return fake_quantize(x, qparams)

    loop = torch.stack([quantized(channel, PerTensor()) for channel in weight])
    assert torch.equal(quantized(weight, PerChannel()), loop)


@pytest.mark.parametrize("cls", [PerTensor, PerChannel])
def test_activations_are_per_tensor(cls):
    assert isinstance(cls(), Granularity)
    with pytest.raises(
        ValueError, match=r"activation=per_channel: must be per_tensor\. .*taken out of the sum"
    ):
        cls(activation="per_channel")


def test_a_scalar_has_no_channels():
    with pytest.raises(ValueError, match="need a tensor with channels"):
        PerChannel().to_observations(torch.tensor(1.0))
