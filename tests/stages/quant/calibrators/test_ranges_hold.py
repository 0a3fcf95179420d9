"""No calibrator chooses a range that ruins the values: every one, on every kind of data, on every grid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.quant.calibrators.kl import Kl
from stages.quant.calibrators.minmax import MinMax
from stages.quant.calibrators.moving_average import MovingAverage
from stages.quant.calibrators.mse import Mse
from stages.quant.calibrators.percentile import Percentile
from stages.quant.qparams import fake_quantize
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.power_of_two import PowerOfTwo
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.statistics import Statistics

CALIBRATORS = [MinMax(), MovingAverage(), Percentile(), Kl(), Mse()]
ROBUST = [MovingAverage(), Percentile(), Kl(), Mse()]
every_calibrator = pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: type(c).__name__)
every_robust = pytest.mark.parametrize("calibrator", ROBUST, ids=lambda c: type(c).__name__)
every_grid = pytest.mark.parametrize(
    "quantizer",
    [
        cls(bits=bits, signed=signed)
        for cls in (Affine, Symmetric, PowerOfTwo)
        for signed in ((False, True) if cls is Affine else (None, True))
        for bits in (8, 4, 2)
    ],
    ids=lambda q: f"{type(q).__name__}-{q.bits}-{q.signed}",
)


def uniform(generator):
    return torch.rand(8, 500, generator=generator)


def normal(generator):
    return torch.randn(8, 500, generator=generator)


DATA = {
    "normal": normal,
    "one-sided": lambda g: normal(g).relu(),
    "negative": lambda g: -1 - 2 * uniform(g),
    "1..3": lambda g: 1 + 2 * uniform(g),
    "gates": lambda g: 0.3 + 0.44 * uniform(g),
    "around 2": lambda g: (2 + 0.3 * normal(g)).clamp(1, 3),
    "bimodal": lambda g: torch.where(uniform(g) < 0.6, 0.3, 0.74) + 0.01 * normal(g),
    "few large": lambda g: torch.where(uniform(g) < 0.97, 0.1, 3.0) + 0.01 * normal(g),
    "two signs": lambda g: torch.where(uniform(g) < 0.5, -2.0, 3.0) + 0.1 * normal(g),
    "levels": lambda g: torch.randint(0, 10, (8, 500), generator=g).float(),
    "pixels": lambda g: torch.randint(0, 256, (8, 500), generator=g).float() / 255,
    "constant": lambda g: torch.full((8, 500), 0.7),
    "negative constant": lambda g: torch.full((8, 500), -3.0),
    "mostly zero": lambda g: normal(g).relu() * (uniform(g) < 0.02),
    "heavy tails": lambda g: normal(g) ** 3,
    "tiny": lambda g: 1e-12 * normal(g),
    "huge": lambda g: 1e12 * normal(g),
}
RAGGED = ("heavy tails", "mostly zero")
every_kind = pytest.mark.parametrize("kind", DATA)


def made(kind: str, seed: int = 0) -> torch.Tensor:
    return DATA[kind](torch.Generator().manual_seed(seed))


def observed(x: torch.Tensor, updates: int = 4) -> Statistics:
    """Rows are samples, in `updates` batches."""
    statistics = Statistics()
    for batch in x.tensor_split(updates):
        statistics.update(batch)
    return statistics


def sqnr(x: torch.Tensor, quantizer, low: torch.Tensor, high: torch.Tensor) -> float:
    error = (fake_quantize(x, quantizer.qparams(low, high)) - x).double().square().mean()
    return float(10 * torch.log10(x.double().square().mean() / error.clamp(min=1e-300)))


def clipped(x: torch.Tensor, quantizer, low: torch.Tensor, high: torch.Tensor) -> float:
    """The share of values beyond the range by more than half a step."""
    half_step = quantizer.qparams(low, high).scale / 2
    return float(((x < low - half_step) | (x > high + half_step)).double().mean())


@every_calibrator
@every_grid
@every_kind
def test_little_is_clipped_and_little_is_lost(calibrator, quantizer, kind):
    """The range lies within the observed one with 0, clips little, and costs little beside min/max."""
    x = made(kind)
    low, high = calibrator.range(observed(x), quantizer.qparams)
    assert min(float(x.min()), 0.0) <= float(low) <= float(high) <= max(float(x.max()), 0.0)
    assert float(((x < low) | (x > high)).double().mean()) <= 0.5
    # the least error of 3 levels clips many values by a little; 8 bits have no need to
    assert clipped(x, quantizer, low, high) <= {8: 0.01, 4: 0.25, 2: 0.45}[quantizer.bits]
    least = sqnr(x, quantizer, x.min(), x.max())
    # where some values are far larger than most, what is not min/max or least error clips these few
    bound = 8.0 if kind in RAGGED else 25.0
    assert sqnr(x, quantizer, low, high) >= min(least - (0.1 if isinstance(calibrator, Mse) else 7.0), bound)


@every_calibrator
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(DATA)),
    st.sampled_from(["shift", "scale", "join"]),
    st.floats(-4, 4, width=32),
    st.integers(2, 8),
    st.sampled_from([Affine, Symmetric]),
    st.integers(0, 99),
)
def test_no_more_than_half_is_clipped_whatever_the_data(calibrator, kind, change, by, bits, cls, seed):
    """Data of any kind, moved, scaled, or joined with another: the range keeps half of the values."""
    x = made(kind, seed)
    if change == "shift":
        x = x + by * x.abs().max()
    elif change == "scale":
        x = x * 2.0 ** (8 * by)
    else:
        x = torch.cat([x, made("gates", seed) * by], dim=1)
    low, high = calibrator.range(observed(x, updates=8), cls(bits=bits).qparams)
    assert float(((x < low) | (x > high)).double().mean()) <= 0.5
    assert float(low) <= float(high)


@every_robust
@every_grid
@pytest.mark.parametrize("outlier", [1e3, -1e3, 1e6, 1e9, 3e38])
def test_one_abnormal_sample_changes_nothing(calibrator, quantizer, outlier):
    """One value in one of 8 samples: the range is that of the others, their SQNR within 1 dB."""
    x = made("normal")
    ruined = x.clone()
    ruined[3, 100] = outlier
    low, high = calibrator.range(observed(ruined), quantizer.qparams)
    without = calibrator.range(observed(x), quantizer.qparams)
    if abs(outlier) < 1e7:  # beyond, the others' histogram is coarse
        assert sqnr(x, quantizer, low, high) >= sqnr(x, quantizer, *without) - 1.0
    assert float(x.min()) <= float(low) < float(high) <= float(x.max())


@pytest.mark.parametrize("calibrator", [Percentile(), Kl(), Mse()], ids=lambda c: type(c).__name__)
def test_one_abnormal_value_of_a_million_in_a_single_update(calibrator):
    """10^6 values below 4.9 and one of 10^6, with no samples to tell: the bulk is found."""
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    statistics = Statistics()
    statistics.update(torch.cat([x, torch.tensor([1e6])]).reshape(1, -1))
    low, high = calibrator.range(statistics, Affine().qparams)
    assert 3.0 < float(high) < 5.0 and -5.0 < float(low) < -3.0
    if isinstance(calibrator, Percentile):
        assert float(high) == pytest.approx(3.719, abs=0.03)


@every_robust
def test_one_abnormal_image_among_many(calibrator):
    """A sample 10^4 times as large as 249 others, all of its values: the range is theirs."""
    x = made("one-sided").reshape(250, -1)
    ruined = x.clone()
    ruined[77] *= 1e4
    statistics = observed(ruined, updates=4)
    low, high = calibrator.range(statistics, Symmetric().qparams)
    assert float(low) == 0.0
    assert 0.7 * float(x.max()) < float(high) <= float(x.max())


def test_minmax_stays_exact():
    x = made("normal")
    x[3, 100] = 1e6
    low, high = MinMax().range(observed(x), Affine().qparams)
    assert (float(low), float(high)) == (float(x.min()), 1e6)


@every_calibrator
def test_what_is_large_in_many_samples_is_not_abnormal(calibrator):
    """One value in 2000 is 40 times as large as the rest, in each of 64 samples: MSE and min/max keep it."""
    x = torch.rand(64, 2000, generator=torch.Generator().manual_seed(0))
    x[:, 5] = 40.0
    _, high = calibrator.range(observed(x), Affine().qparams)
    if isinstance(calibrator, MinMax | MovingAverage | Mse | Percentile):
        assert float(high) > 35.0
    assert float(high) >= 1.0


@every_calibrator
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "bimodal"])
def test_ranges_do_not_depend_on_the_order_of_samples(calibrator, kind):
    """By class, by class in reverse, shuffled: equal to the bit, but for the moving average, within a tenth.

    Classes differ in brightness by up to 8 times. The moving average is given shuffled samples only.
    """
    x = made(kind).reshape(160, -1) * torch.linspace(1, 8, 10).repeat_interleave(16)[:, None]
    orders = [torch.arange(160), torch.arange(160).flip(0)]
    orders += [torch.randperm(160, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    ranges = [
        [float(end) for end in calibrator.range(observed(x[order], 10), Affine().qparams)] for order in orders
    ]
    if isinstance(calibrator, MovingAverage):
        assert ranges[3] == pytest.approx(ranges[2], rel=0.2) and ranges[4] == pytest.approx(
            ranges[2], rel=0.2
        )
    else:
        assert all(found == ranges[0] for found in ranges)
