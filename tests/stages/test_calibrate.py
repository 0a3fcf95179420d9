"""Observing and calibrating a real network: the order of classes, and samples unlike the others."""

import pytest
import torch
from torch import nn

from stages.artifacts import FloatModel, Observations
from stages.calibrate import Calibrate
from stages.data.base import Split
from stages.data.batches import batches
from stages.data.digits import Digits
from stages.graph.calibrate import abnormal_points, calibrate
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.points import quantization_points
from stages.graph.simulate import simulation_of
from stages.observe import Observe
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.kl import Kl
from stages.quant.calibrators.minmax import MinMax
from stages.quant.calibrators.moving_average import MovingAverage
from stages.quant.calibrators.mse import Mse
from stages.quant.calibrators.percentile import Percentile
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.granularity.per_tensor import samples_as_rows
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.statistics import Statistics
from stages.training.fit import FloatTraining, fit

DATA = Digits()
QUANTIZER = WeightsAndActivations(weight=Symmetric(signed=True), activation=Symmetric())
CALIBRATORS = [MinMax(), MovingAverage(), Percentile(), Kl(), Mse()]
every_calibrator = pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: type(c).__name__)


class Arranged(Digits):
    """Digits whose training images lie in another order, the first class dimmed to an eighth."""

    def __init__(self, order: str) -> None:
        super().__init__()
        object.__setattr__(self, "order", order)

    def train(self) -> Split:
        split = super().train()
        labels = torch.from_numpy(split.labels)
        order = {
            "sorted": labels.argsort(stable=True),
            "reversed": labels.argsort(stable=True).flip(0),
            "shuffled": torch.randperm(len(labels), generator=torch.Generator().manual_seed(0)),
        }[self.order].numpy()
        images, labels = split.images[order].copy(), split.labels[order]
        images[labels == 0] //= 8
        images[labels == 9] //= 8
        return Split(images=images, labels=labels)


def quantized(observations: Observations, calibrator) -> object:
    return calibrate(
        observations.graph,
        observations.statistics,
        QUANTIZER,
        Calibration(activation=calibrator),
        PerChannel(),
    )


@pytest.fixture(scope="module")
def test_images():
    split = DATA.test()
    ((x, y),) = batches(split, len(split), DATA)
    return x, y


def sqnr(observations: Observations, calibrator, x: torch.Tensor) -> float:
    with torch.inference_mode():
        exact = execute(observations.graph, x)
        error = simulation_of(quantized(observations, calibrator))(x) - exact
    return float(10 * torch.log10(exact.square().mean() / error.square().mean()))


@every_calibrator
def test_the_order_of_classes_does_not_matter(calibrator, digits_inputs, ctx, test_images):
    """Two classes are dark, and one comes first; SQNR is that of shuffled images, within 1.5 dB.

    Where all samples are observed, only the moving average's range may differ at all.
    """
    found, ranges = {}, {}
    for order in ("sorted", "reversed", "shuffled"):
        observe = Observe(data=Arranged(order), samples=1000, batch_size=100)
        observations = observe.run(ctx, digits_inputs)
        found[order] = sqnr(observations, calibrator, test_images[0])
        everything = Observe(data=Arranged(order), samples=10_000, batch_size=479)  # three equal batches
        statistics = everything.run(ctx, digits_inputs).statistics["input"]
        ranges[order] = calibrator.range(statistics, Symmetric().qparams)
    assert found["sorted"] == pytest.approx(found["shuffled"], abs=1.5)
    assert found["reversed"] == pytest.approx(found["shuffled"], abs=1.5)
    if not isinstance(calibrator, MovingAverage):
        assert ranges["sorted"] == ranges["reversed"] == ranges["shuffled"]


@pytest.fixture(scope="module")
def with_an_abnormal_image(digits_inputs):
    """Observations of all training images, one of which answers 10^4 times as strongly as it does."""
    graph = digits_inputs[Observations].graph
    statistics = {name: Statistics() for name in quantization_points(graph)}
    seen = 0
    with torch.inference_mode():
        for x, _ in batches(DATA.train(), 64, DATA):
            values = {}
            execute(graph, x, lambda node, value, values=values: values.setdefault(node.name, value))
            for name, one in statistics.items():
                rows = samples_as_rows(values[name]).clone()
                if seen <= 700 < seen + len(x):
                    rows[700 - seen] *= 1e4
                one.update(rows)
            seen += len(x)
    return Observations(graph=graph, statistics=statistics, sample_ids=tuple(range(seen)))


@every_calibrator
def test_one_abnormal_image_does_not_ruin_the_network(calibrator, with_an_abnormal_image, test_images):
    """All calibrators but min/max leave it out: accuracy is the float network's, within 1.5 points."""
    x, y = test_images
    with torch.inference_mode():
        exact = execute(with_an_abnormal_image.graph, x)
        logits = simulation_of(quantized(with_an_abnormal_image, calibrator))(x)
    top1, of_float = (float((found.argmax(1) == y).float().mean()) for found in (logits, exact))
    assert of_float > 0.9
    if isinstance(calibrator, MinMax):
        assert top1 < 0.5  # exact, as its name says; the run warns
    else:
        assert top1 >= of_float - 0.015


class Warnings:
    def __init__(self):
        self.seen = []

    def warn(self, text):
        self.seen.append(text)


@pytest.mark.parametrize("calibrator", [MinMax(), MovingAverage()], ids=lambda c: type(c).__name__)
def test_the_run_names_abnormal_samples(calibrator, with_an_abnormal_image, digits_inputs, ctx):
    stage = Calibrate(
        quantizer=QUANTIZER, calibration=Calibration(activation=calibrator), granularity=PerChannel()
    )
    console = Warnings()
    object.__setattr__(ctx, "console", console)
    stage.run(ctx, {Observations: with_an_abnormal_image})
    (text,) = console.seen
    assert "in 1 of 1437 samples (training rows 700)" in text
    assert "calibration=minmax covers them" in text and "Remedy: look at these samples" in text
    points = len(quantization_points(with_an_abnormal_image.graph))
    assert len(abnormal_points(with_an_abnormal_image.statistics)) == points
    assert with_an_abnormal_image.metrics()["calibration/abnormal_points"] == points
    stage.run(ctx, {Observations: digits_inputs[Observations]})
    assert len(console.seen) == 1
    assert digits_inputs[Observations].metrics()["calibration/abnormal_points"] == 0.0


@every_calibrator
def test_inputs_away_from_zero_keep_the_network(calibrator, ctx):
    """Inputs in 1..3: no calibrator begins and ends at the first of them."""
    data = Digits(mean=(-0.5,), std=(0.5,))
    x, y = next(batches(data.test(), 360, data))
    assert (float(x.min()), float(x.max())) == (1.0, 3.0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in module[1::2]:
            layer.reset_parameters()
        fit(module, data, FloatTraining(epochs=10, learning_rate=0.05), seed=0)
    model = FloatModel(graph=capture(module.eval(), data.shape))
    observations = Observe(data=data, samples=256).run(ctx, {FloatModel: model})
    with torch.inference_mode():
        exact = execute(observations.graph, x)
        logits = simulation_of(quantized(observations, calibrator))(x)
    top1, of_float = (float((found.argmax(1) == y).float().mean()) for found in (logits, exact))
    assert of_float > 0.8
    assert top1 >= of_float - 0.015
