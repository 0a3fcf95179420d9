"""Weights' scales and integer biases: the one rule that both simulation and lowering rely on."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.calibrators.minmax import MinMax
from stages.quant.calibrators.mse import Mse
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.granularity.per_group import PerGroup
from stages.quant.granularity.per_tensor import PerTensor
from stages.quant.qparams import QParams, fake_quantize, quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.weights import dequantize_bias, fit_bias, quantize_bias, weight_qparams

CHANNELS = 4
MAGNITUDES = st.lists(
    st.sampled_from([0.0, 1e-30, 1e-12, 1e-4, 1.0, 1e4]), min_size=CHANNELS, max_size=CHANNELS
).map(torch.tensor)
QUANTIZERS = st.sampled_from([Affine(signed=True), Symmetric(signed=True), Symmetric(bits=4, signed=True)])
GRANULARITIES = st.sampled_from([PerTensor(), PerChannel()])
POINTWISE = st.sampled_from([PerGroup(group_size=1), PerGroup(group_size=4)])
INPUT_SCALES = st.sampled_from([1e-6, 0.02, 10.0]).map(torch.tensor)


def weights(magnitudes: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(CHANNELS, 3, 3, 3, generator=generator) * magnitudes.reshape(-1, 1, 1, 1)


def largest(w: torch.Tensor, qparams: QParams) -> torch.Tensor:
    return w.abs().amax() if qparams.ch_axis is None else w.abs().amax(dim=(1, 2, 3))


@given(MAGNITUDES, MAGNITUDES, INPUT_SCALES, QUANTIZERS, GRANULARITIES)
def test_every_bias_fits_30_bits(magnitudes, bias, input_scale, quantizer, granularity):
    """Whatever folding left: |q_b| ≤ 2^30, so int32 holds it and a sum beside it."""
    qparams = weight_qparams(weights(magnitudes), bias, input_scale, quantizer, MinMax(), granularity)
    q = quantize_bias(bias, input_scale, qparams.scale)
    assert q.dtype == torch.int32 and q.shape == bias.shape
    assert int(q.abs().max()) <= 2**30
    assert bool(torch.isfinite(qparams.scale).all() & (qparams.scale > 0).all())
    assert qparams.ch_axis == granularity.ch_axis(4)
    assert qparams.scale.shape == (() if qparams.ch_axis is None else (CHANNELS,))


@given(MAGNITUDES, MAGNITUDES, INPUT_SCALES, QUANTIZERS, POINTWISE)
def test_the_first_group_takes_the_bias(magnitudes, bias, input_scale, quantizer, granularity):
    """With scales of groups, a bias fits 30 bits at the first group's; the other scales are as chosen."""
    w = torch.randn(CHANNELS, 8, generator=torch.Generator().manual_seed(0)) * magnitudes[:, None]
    qparams = weight_qparams(w, bias, input_scale, quantizer, MinMax(), granularity)
    assert int(quantize_bias(bias, input_scale, qparams.bias_scale).abs().max()) <= 2**30
    chosen = weight_qparams(w, None, input_scale, quantizer, MinMax(), granularity)
    assert torch.equal(qparams.scale[:, 1:], chosen.scale[:, 1:])


@given(MAGNITUDES, MAGNITUDES, INPUT_SCALES, QUANTIZERS)
def test_a_channel_of_zeros_keeps_16_bits_of_its_bias(magnitudes, bias, input_scale, quantizer):
    """Where all of a channel's weights round to zero, |q_b| ≥ 2^16 (unless b / s_x is as good as zero)."""
    w = weights(magnitudes)
    qparams = weight_qparams(w, bias, input_scale, quantizer, MinMax(), PerChannel())
    q = quantize_bias(bias, input_scale, qparams.scale)
    zero = fake_quantize(w, qparams).abs().amax(dim=(1, 2, 3)) == 0
    noticeable = bias / input_scale > 1e-6
    assert bool((q[zero & noticeable] >= 2**16 - 1).all())
    assert int(zero.sum()) >= int((magnitudes == 0).sum())


@given(
    MAGNITUDES, MAGNITUDES, INPUT_SCALES, QUANTIZERS, GRANULARITIES, st.sampled_from([1.0, 2.0, 1e3, 2.0**20])
)
def test_weights_that_round_to_zero_do_so_on_the_fitted_scale(
    magnitudes, bias, input_scale, quantizer, granularity, coarser
):
    """As on a scale that training made too large for its channel; no bias needs it coarser than it was."""
    w = weights(magnitudes)
    learned = weight_qparams(w, None, input_scale, quantizer, MinMax(), granularity)
    learned = replace(learned, scale=learned.scale * coarser)
    fitted = fit_bias(learned, w, bias, input_scale)
    zero = largest(fake_quantize(w, learned), learned) == 0.0
    assert bool((largest(fake_quantize(w, fitted), fitted)[zero] == 0.0).all())
    steps = (bias if learned.scale.ndim else bias.amax()) / input_scale
    assert bool((fitted.scale <= torch.maximum(learned.scale, steps / 2**16)).all())


@given(MAGNITUDES, MAGNITUDES, INPUT_SCALES, QUANTIZERS, GRANULARITIES)
def test_weights_and_biases_round_by_at_most_half_a_step(
    magnitudes, bias, input_scale, quantizer, granularity
):
    """A raised scale still covers the weights; |b − dequantize(quantize(b))| ≤ s_x·s_w/2, to an ulp."""
    w = weights(magnitudes)
    qparams = weight_qparams(w, bias, input_scale, quantizer, MinMax(), granularity)
    scale, _ = qparams.broadcast(4)
    assert bool(((fake_quantize(w, qparams) - w).abs() <= scale * (0.5 + 1e-4)).all())
    q = quantize_bias(bias, input_scale, qparams.scale)
    error = (dequantize_bias(q, input_scale, qparams.scale).double() - bias.double()).abs()
    step = input_scale.double() * qparams.scale.double()
    assert bool((error <= step * 0.5 + bias.double() * 2**-23).all())


def test_ordinary_layers_keep_the_quantizers_scale():
    w, bias = weights(torch.ones(CHANNELS)), torch.tensor([0.5, -1.0, 0.0, 2.0])
    found = weight_qparams(w, bias, torch.tensor(0.02), Symmetric(signed=True), MinMax(), PerChannel())
    assert torch.equal(found.scale, w.abs().amax(dim=(1, 2, 3)) / 127)
    assert torch.equal(quantize_bias(bias, torch.tensor(0.02), found.scale).sign(), bias.sign().int())


def test_a_layer_without_bias():
    w = weights(torch.tensor([1.0, 0.0, 1.0, 1.0]))
    found = weight_qparams(w, None, torch.tensor(0.02), Affine(signed=True), MinMax(), PerChannel())
    assert float(found.scale[1]) == 1.0
    assert bool((quantize(w, found)[1] == found.zero_point[1]).all())


def test_the_weights_calibrator_is_asked():
    """With 3 bits, least squares clips normal weights."""
    w = weights(torch.ones(CHANNELS))
    scales = [
        weight_qparams(
            w, None, torch.tensor(1.0), Symmetric(bits=3, signed=True), calibrator, PerChannel()
        ).scale
        for calibrator in (MinMax(), Mse())
    ]
    assert bool((scales[1] < scales[0]).all())


@pytest.mark.parametrize("broken", ["weight", "bias"])
def test_nan_is_refused(broken):
    w, bias = weights(torch.ones(CHANNELS)), torch.zeros(CHANNELS)
    (w if broken == "weight" else bias).reshape(-1)[0] = float("nan")
    with pytest.raises(ValueError, match=r"NaN or infinity\. Remedy: "):
        weight_qparams(w, bias, torch.tensor(1.0), Affine(signed=True), MinMax(), PerChannel())


def test_a_bias_beyond_30_bits_is_refused():
    with pytest.raises(ValueError, match=r"reaches 1e\+12 steps .* at most 2\^30.*Remedy: .*weight_qparams"):
        quantize_bias(torch.tensor([1.0]), torch.tensor(1e-6), torch.tensor([1e-6]))
