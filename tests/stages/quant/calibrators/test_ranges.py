"""What holds for every calibrator, and the two that are simple sums: min/max and moving average."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.calibrators.base import Calibration, Calibrator
from stages.quant.calibrators.kl import Kl
from stages.quant.calibrators.minmax import MinMax
from stages.quant.calibrators.moving_average import MovingAverage
from stages.quant.calibrators.mse import Mse
from stages.quant.calibrators.percentile import Percentile
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.statistics import Statistics

CALIBRATORS = [MinMax(), MovingAverage(), Percentile(), Kl(stride=16), Mse()]
QUANTIZERS = [Affine(bits=4), Symmetric(bits=8)]
BATCHES = st.lists(
    st.lists(st.floats(-(2.0**66), 2.0**66, width=32), min_size=1, max_size=20), min_size=1, max_size=4
)
every_calibrator = pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: type(c).__name__)


def observed(*batches: torch.Tensor) -> Statistics:
    statistics = Statistics()
    for batch in batches:
        statistics.update(batch)
    return statistics


@every_calibrator
@given(BATCHES, st.sampled_from(QUANTIZERS))
def test_the_range_lies_within_what_was_observed(calibrator, batches, quantizer):
    """min ≤ low ≤ high ≤ max, of the range with 0: clipped at most, so one-sided data stays one-sided."""
    statistics = observed(*(torch.tensor([batch]) for batch in batches))
    low, high = calibrator.range(statistics, quantizer.qparams)
    assert low.shape == high.shape == () and low.dtype == high.dtype == torch.float32
    assert min(float(statistics.minimum), 0.0) <= float(low) <= float(high)
    assert float(high) <= max(float(statistics.maximum), 0.0)


@every_calibrator
@pytest.mark.parametrize("quantizer", [Affine(signed=True), Symmetric(signed=True)])
def test_slots_equal_a_loop(calibrator, quantizer):
    """Granularity equals a per-slice loop: ranges of 6 slots are those of each slot alone."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 6, 200, generator=generator) ** 3 * torch.logspace(-3, 3, 6)[:, None]
    x[:, 1].abs_()
    x[:, 2] = 0.0
    low, high = calibrator.range(observed(x), quantizer.qparams)
    for slot in range(6):
        alone_low, alone_high = calibrator.range(observed(x[:, slot]), quantizer.qparams)
        assert float(low[slot]) == pytest.approx(float(alone_low), rel=1e-6)
        assert float(high[slot]) == pytest.approx(float(alone_high), rel=1e-6)


@every_calibrator
def test_a_constant_zero_has_the_range_zero(calibrator):
    low, high = calibrator.range(observed(torch.zeros(1, 10)), Affine().qparams)
    assert (float(low), float(high)) == (0.0, 0.0)


@given(BATCHES)
def test_minmax_is_exact(batches):
    low, high = MinMax().range(observed(*(torch.tensor([b]) for b in batches)), Affine().qparams)
    assert float(low) == min(map(min, batches)) and float(high) == max(map(max, batches))


@given(BATCHES, st.floats(0, 0.999))
def test_moving_average_equals_its_recurrence(batches, momentum):
    """m_t = momentum·m_{t−1} + (1−momentum)·b_t from 0 on, over 1 − momentum^t, in float64."""
    low = high = 0.0
    for batch in batches:
        low = momentum * low + (1 - momentum) * min(batch)
        high = momentum * high + (1 - momentum) * max(batch)
    low, high = (end / (1 - momentum ** len(batches)) for end in (low, high))
    statistics = Statistics(histogram=False)
    for batch in batches:
        statistics.update(torch.tensor([batch]))
    found = MovingAverage(momentum=momentum).range(statistics, Affine().qparams)
    largest = max(abs(x) for batch in batches for x in batch)
    assert [float(x) for x in found] == pytest.approx([low, high], rel=1e-6, abs=1e-6 * largest)


def test_no_batch_of_a_moving_average_weighs_more_than_the_last():
    """Weights of 8 batches at momentum 0.9, the first has 0.9^7 / Σ 0.9^i = 0.084, the last 0.176."""
    for batch, weight in ((0, 0.9**7), (7, 1.0)):
        x = torch.ones(8, 1, 50)
        x[batch] = 2.0
        _, high = MovingAverage().range(observed(*x), Affine().qparams)
        assert float(high) == pytest.approx(1 + weight / sum(0.9**i for i in range(8)))


def test_a_moving_average_leaves_a_batch_of_abnormal_samples_out():
    batches = torch.ones(9, 1, 50)
    batches[4] = 1e4
    low, high = MovingAverage().range(observed(*batches), Affine().qparams)
    assert (float(low), float(high)) == pytest.approx((1.0, 1.0))


def test_a_moving_average_keeps_half_of_the_values():
    """Batches of two kinds: the average lies between them, and would clip all of one."""
    batches = torch.tensor([1.0, 3.0] * 4).reshape(8, 1, 1).expand(8, 1, 50)
    _, high = MovingAverage().range(observed(*batches), Affine().qparams)
    assert float(high) == 3.0


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_is_checked(momentum):
    with pytest.raises(ValueError, match=rf"momentum={momentum}: must be at least 0 .* and below 1"):
        MovingAverage(momentum=momentum)


def test_calibration_defaults_to_the_whole_range_of_weights():
    calibration = Calibration(activation=Kl())
    assert calibration.weight == MinMax()
    assert all(isinstance(calibrator, Calibrator) for calibrator in CALIBRATORS)


@pytest.mark.parametrize("name", ["samples", "batch_size"])
def test_sizes_are_checked(name):
    with pytest.raises(ValueError, match=f"{name}=0: must be at least 1"):
        Calibration(activation=MinMax(), **{name: 0})
