"""Which values share a scale: shapes, and that slices do not see each other."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.calibrators.kl import Kl
from stages.quant.calibrators.minmax import MinMax
from stages.quant.calibrators.moving_average import MovingAverage
from stages.quant.calibrators.mse import Mse
from stages.quant.calibrators.percentile import Percentile
from stages.quant.granularity.base import Granularity
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.granularity.per_group import PerGroup
from stages.quant.granularity.per_tensor import PerTensor, samples_as_rows
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


@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12), QUANTIZERS, st.integers(0, 2**32 - 1))
def test_per_group_equals_a_loop_over_groups(rows, channels, group_size, quantizer, seed):
    """A group is quantized as if it were alone; its size is the largest divisor of I up to `group_size`."""
    generator = torch.Generator().manual_seed(seed)
    weight = (
        torch.randn(rows, channels, 1, 1, generator=generator)
        * torch.logspace(-2, 2, channels)[:, None, None]
    )
    size = max(n for n in range(1, min(group_size, channels) + 1) if channels % n == 0)

    def quantized(x, granularity):
        qparams = weight_qparams(x, None, torch.tensor(1.0), quantizer, MinMax(), granularity)
        return fake_quantize(x, qparams)

    loop = torch.cat([quantized(group, PerChannel()) for group in weight.split(size, dim=1)], dim=1)
    assert torch.equal(quantized(weight, PerGroup(group_size=group_size)), loop)


@pytest.mark.parametrize(
    ("shape", "observed"),
    [
        ((10, 64), (1, 10, 4, 16)),
        ((8, 24, 1, 1), (1, 8, 2, 12)),
        ((10, 16), (1, 10, 16)),
        ((8, 3, 5, 5), (1, 8, 75)),
        ((8, 1, 1, 1), (1, 8, 1)),
    ],
)
def test_who_has_groups(shape, observed):
    assert PerGroup(group_size=16).to_observations(torch.zeros(shape)).shape == observed


def test_many_groups_are_calibrated_in_parts():
    """4,000 scales, more than are calibrated at a time."""
    weight = torch.randn(1000, 8, generator=torch.Generator().manual_seed(0))
    quantizer, unit = Symmetric(signed=True), torch.tensor(1.0)
    found = weight_qparams(weight, None, unit, quantizer, MinMax(), PerGroup(group_size=2))
    assert torch.equal(found.scale, weight.reshape(1000, 4, 2).abs().amax(dim=2) / 127)


def test_a_group_has_a_channel():
    with pytest.raises(ValueError, match=r"group_size=0: must be at least 1"):
        PerGroup(group_size=0)


@pytest.mark.parametrize("cls", [PerTensor, PerChannel, PerGroup])
def test_they_are_granularities(cls):
    assert isinstance(cls(), Granularity)


CALIBRATORS = [MinMax(), MovingAverage(), Percentile(), Kl(), Mse()]


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("granularity", [PerTensor(), PerChannel(), PerGroup(group_size=8)])
@pytest.mark.parametrize("shape", [(12, 32), (12, 32, 1, 1), (6, 4, 3, 3), (6, 1, 3, 3), (40, 16)])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_calibrator_gives_every_granularity_its_scales(calibrator, granularity, shape, bits):
    """As weights' calibrator: a scale a slot, a slot as if it were alone, and little of the weight lost."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for quantizer in (Affine(bits=bits, signed=True), Symmetric(bits=bits, signed=True)):
        qparams = weight_qparams(weight, None, torch.tensor(1.0), quantizer, calibrator, granularity)
        assert qparams.scale.shape == granularity.to_observations(weight).shape[1:-1]
        error = (fake_quantize(weight, qparams) - weight).square().mean()
        assert float(error) < (0.03 if isinstance(calibrator, Kl) else 1.2 * 4.0 ** (2 - bits)) or bits == 2
        if qparams.scale.ndim:
            alone = weight_qparams(weight[:1], None, torch.tensor(1.0), quantizer, calibrator, granularity)
            assert torch.allclose(qparams.scale[:1], alone.scale, rtol=1e-6)


@given(st.integers(1, 5), st.lists(st.integers(1, 4), max_size=3))
def test_samples_are_rows(samples, shape):
    x = torch.arange(float(torch.Size((samples, *shape)).numel())).reshape(samples, *shape)
    rows = samples_as_rows(x)
    assert rows.shape[0] == (samples if shape else 1)
    if shape:
        assert torch.equal(rows.amax(dim=1), x.flatten(1).amax(dim=1))


def test_samples_in_channels_last_are_rows_without_a_copy():
    x = torch.rand(3, 4, 5, 6).to(memory_format=torch.channels_last)
    rows = samples_as_rows(x)
    assert rows.data_ptr() == x.data_ptr()
    assert torch.equal(rows.amin(dim=1), x.flatten(1).amin(dim=1))


def test_a_scalar_has_no_channels():
    with pytest.raises(ValueError, match="need a tensor with channels"):
        PerChannel().to_observations(torch.tensor(1.0))
