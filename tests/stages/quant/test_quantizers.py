"""The grids that quantizers lay over a range: levels, zero, and the error of rounding to them."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.qparams import dequantize, fake_quantize, quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import MIN_SCALE, Quantizer, WeightsAndActivations
from stages.quant.quantizers.codebook import Codebook
from stages.quant.quantizers.power_of_two import PowerOfTwo
from stages.quant.quantizers.stochastic import Stochastic
from stages.quant.quantizers.symmetric import Symmetric

BITS = st.integers(2, 8)
QUANTIZERS = st.one_of(
    st.builds(Affine, bits=BITS, signed=st.booleans()),
    st.builds(Symmetric, bits=BITS, signed=st.sampled_from([None, True])),
    st.builds(PowerOfTwo, bits=BITS, signed=st.sampled_from([None, True])),
    st.builds(Stochastic, bits=BITS, signed=st.booleans(), scheme=st.just("affine")),
)
REAL = st.floats(-(2.0**66), 2.0**66, width=32)
RANGES = st.tuples(REAL, REAL).map(sorted).map(lambda ends: tuple(torch.tensor(end) for end in ends))


def inside(low: torch.Tensor, high: torch.Tensor, share: float) -> torch.Tensor:
    """A value of the widened range."""
    low, high = low.double().clamp(max=0), high.double().clamp(min=0)
    return torch.minimum(torch.maximum(low + (high - low) * share, low), high).float()


@given(QUANTIZERS, RANGES, st.lists(REAL, min_size=1))
def test_levels_stay_within_the_grid(quantizer, ends, values):
    """Output in range: whatever the value, its level is one of the grid's, in the grid's dtype."""
    qparams = quantizer.qparams(*ends)
    q = quantize(torch.tensor(values), qparams)
    assert q.dtype == (torch.int8 if qparams.quant_min < 0 else torch.uint8)
    assert qparams.quant_min <= int(q.min()) <= int(q.max()) <= qparams.quant_max
    assert qparams.quant_max - qparams.quant_min < 2**quantizer.bits


@given(QUANTIZERS, RANGES)
def test_real_zero_is_exact(quantizer, ends):
    """Real zero exact: 0.0 becomes the zero point, which lies in the grid, and comes back as 0.0."""
    qparams = quantizer.qparams(*ends)
    assert qparams.quant_min <= int(qparams.zero_point) <= qparams.quant_max
    assert int(quantize(torch.tensor(0.0), qparams)) == int(qparams.zero_point)
    assert float(fake_quantize(torch.tensor(0.0), qparams)) == 0.0


@given(QUANTIZERS, RANGES, st.floats(0, 1))
def test_round_trip_error(quantizer, ends, share):
    """Within the range, |x − dequantize(quantize(x))| ≤ scale/2, up to float32 rounding of x and scale.

    The division and the product each round by 2^-24 relative, and so does the scale: at most 255 levels from
    zero that shifts by less than 1e-4 of a step.
    """
    qparams = quantizer.qparams(*ends)
    x = inside(*ends, share)
    error = (dequantize(quantize(x, qparams), qparams).double() - x.double()).abs()
    assert float(error) <= float(qparams.scale) * (0.5 + 1e-4)


@given(QUANTIZERS, RANGES, st.lists(REAL, min_size=1))
def test_idempotence(quantizer, ends, values):
    """A value that is on the grid stays where it is."""
    qparams = quantizer.qparams(*ends)
    once = fake_quantize(torch.tensor(values), qparams)
    assert torch.equal(fake_quantize(once, qparams), once)
    assert torch.equal(dequantize(quantize(once, qparams), qparams), once)


@given(QUANTIZERS, st.lists(RANGES, min_size=1, max_size=5))
def test_channels_equal_a_loop_over_ranges(quantizer, ranges):
    """A vector of ranges gives what its elements give one by one (levels by the data: for all at once)."""
    low, high = (torch.stack(ends) for ends in zip(*ranges, strict=True))
    together = quantizer.qparams(low, high, ch_axis=0)
    if quantizer.signed is None:
        quantizer = replace(quantizer, signed=together.quant_min < 0)
    apart = [quantizer.qparams(*ends) for ends in ranges]
    assert torch.equal(together.scale, torch.stack([q.scale for q in apart]))
    assert torch.equal(together.zero_point, torch.stack([q.zero_point for q in apart]))
    assert {(q.quant_min, q.quant_max) for q in apart} == {(together.quant_min, together.quant_max)}
    assert together.ch_axis == 0 and together.scale.shape == (len(ranges),)


@pytest.mark.parametrize(
    ("quantizer", "low", "levels"),
    [
        (Affine(bits=8), -1.0, (0, 255)),
        (Affine(bits=4, signed=True), -1.0, (-8, 7)),
        (Symmetric(bits=8, signed=True), 0.0, (-127, 127)),
        (Symmetric(bits=8), -1.0, (-127, 127)),
        (Symmetric(bits=8), 0.0, (0, 254)),
        (Symmetric(bits=2), 0.0, (0, 2)),
        (Symmetric(bits=2), -1.0, (-1, 1)),
        (PowerOfTwo(bits=4), 0.0, (0, 14)),
        (PowerOfTwo(bits=4), -1.0, (-7, 7)),
        (Stochastic(bits=4), -1.0, (-7, 7)),
        (Stochastic(bits=4, scheme="affine", signed=False), -1.0, (0, 15)),
        (Codebook(bits=4), -1.0, (-127, 127)),
    ],
)
def test_levels(quantizer, low, levels):
    qparams = quantizer.qparams(torch.tensor(low), torch.tensor(3.0))
    assert (qparams.quant_min, qparams.quant_max) == levels
    assert isinstance(quantizer, Quantizer)


@given(QUANTIZERS, st.floats(0, 2**-62, width=32))
def test_a_range_that_is_hardly_there_gets_scale_one(quantizer, high):
    """A zero range, and one of a width that scales could not express, has a finite, positive scale."""
    qparams = quantizer.qparams(torch.tensor(0.0), torch.tensor(high))
    assert float(qparams.scale) == 1.0
    assert float(fake_quantize(torch.tensor(high), qparams)) == 0.0


@given(QUANTIZERS, RANGES)
def test_scales_can_be_multiplied_and_inverted(quantizer, ends):
    """The product of any two scales, and any scale's reciprocal, is a normal float32."""
    scale = float(quantizer.qparams(*ends).scale)
    assert MIN_SCALE <= scale < float("inf")
    assert torch.finfo(torch.float32).tiny <= MIN_SCALE**2


@pytest.mark.parametrize(
    ("cls", "most"), [(Affine, 16), (Symmetric, 16), (PowerOfTwo, 8), (Stochastic, 16), (Codebook, 8)]
)
def test_bits_are_refused(cls, most):
    for bits in (1, most + 1):
        with pytest.raises(ValueError, match=rf"bits={bits}: must be 2\.\.{most}\."):
            cls(bits=bits)


@pytest.mark.parametrize("role", ["weight", "activation"])
def test_what_layers_multiply_has_at_most_8_bits(role):
    wide = {role: Affine(bits=9, signed=role == "weight")}
    with pytest.raises(ValueError, match=rf"{role}\.bits=9: must be 2\.\.8\..*residual_bits alone"):
        WeightsAndActivations(**{"weight": Symmetric(signed=True), "activation": Affine(), **wide})


@pytest.mark.parametrize("quantizer", [Affine(), Symmetric()])
@pytest.mark.parametrize("ends", [(float("nan"), 1.0), (0.0, float("inf")), (float("-inf"), 0.0)])
def test_a_range_that_is_not_finite_is_refused(quantizer, ends):
    with pytest.raises(ValueError, match=r"is not finite\. Remedy: .*diverged"):
        quantizer.qparams(*(torch.tensor(end) for end in ends))


def test_a_range_upside_down_is_refused():
    with pytest.raises(ValueError, match=r"minimum 2\.0 lies above maximum 1\.0\. Remedy: .*in this order"):
        Affine().qparams(torch.tensor(2.0), torch.tensor(1.0))


def test_unsigned_levels_refuse_negative_values():
    with pytest.raises(ValueError, match=r"signed=False, but values go down to -1\b.*Remedy: signed=null"):
        Symmetric(signed=False).qparams(torch.tensor(-1.0), torch.tensor(1.0))


@pytest.mark.parametrize("weight", [Affine(signed=False), Symmetric(signed=None)])
def test_weights_must_be_signed(weight):
    with pytest.raises(ValueError, match=rf"weight\.signed={weight.signed}: must be true"):
        WeightsAndActivations(weight=weight, activation=Affine())


def test_whole_tensors_quantizers_are_not_for_activations():
    with pytest.raises(
        ValueError, match=r"activation: Codebook chooses levels for a whole weight.*Remedy: sym"
    ):
        WeightsAndActivations(weight=Symmetric(signed=True), activation=Codebook())


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"wieght": 4}, r"layers\.fc\.wieght: did you mean 'weight'\? valid: activation, weight"),
        ({"weight": 9}, r"layers\.fc\.weight\.bits=9: must be 2\.\.8"),
        ({"weight": Affine(signed=False)}, r"layers\.fc\.weight\.signed=False: must be true"),
        ({"activation": Codebook()}, r"layers\.fc\.activation: Codebook chooses"),
    ],
)
def test_rules_are_checked(rule, message):
    with pytest.raises(ValueError, match=message):
        WeightsAndActivations(weight=Symmetric(signed=True), activation=Symmetric(), layers={"fc": rule})


@pytest.mark.parametrize(("name", "most"), [("first_last_bits", 8), ("residual_bits", 16)])
def test_widths_of_a_few_values_are_checked(name, most):
    with pytest.raises(ValueError, match=rf"{name}=1: must be 2\.\.{most}, or null"):
        WeightsAndActivations(weight=Symmetric(signed=True), activation=Symmetric(), **{name: 1})


def test_a_residual_stream_in_float_has_no_bits():
    with pytest.raises(ValueError, match=r"residual_bits=8: must be null where activation=null"):
        WeightsAndActivations(weight=Symmetric(signed=True), activation=None, residual_bits=8)
