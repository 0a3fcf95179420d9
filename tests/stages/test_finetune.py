"""The stage finetune on real digits: what it hands on, records, and survives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.errors import ConfigError
from stages.artifacts import FloatModel, QuantizedModel
from stages.calibrate import Calibrate
from stages.data.batches import batches
from stages.data.digits import Digits
from stages.finetune import Finetune
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.graph.simulate import simulation_of
from stages.integer.interpreter import Interpreter, dequantize_output, quantize_input
from stages.models.mobilenet_digits import MobileNetDigits
from stages.observe import Observe
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.estimators.lsq import Lsq
from stages.quant.estimators.ste import Ste
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.training.fit import FloatTraining, fit
from stages.training.qat_objective import QatSchedule
from tests.composed import built

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Digits()


class Whole:
    """A quantizer of whole weights whose levels training cannot move."""

    elementwise = False
    signed = True
    bits = 4

    def qparams(self, minimum, maximum, ch_axis=None):
        raise NotImplementedError

    def levels(self, weight, qparams, name):
        raise NotImplementedError


QUANTIZER = WeightsAndActivations(weight=Symmetric(bits=2, signed=True), activation=Symmetric(bits=4))
STAGE = Finetune(
    data=DATA,
    quantizer=QUANTIZER,
    estimator=Lsq(),
    recipe=FloatTraining(epochs=3, learning_rate=0.02, held_out=0.1, patience=2, weight_decay=1e-4),
    schedule=QatSchedule(delay=0.1),
)


class Recorder:
    """A tracker that remembers metrics, and can end the run as a kill would."""

    def __init__(self, die_at: int | None = None) -> None:
        self.seen: dict[int, dict[str, float]] = {}
        self._die_at = die_at

    def tags(self, values):
        self.said = dict(values)

    def metrics(self, values, step=None):
        self.seen[step] = dict(values)
        if step == self._die_at:
            raise KeyboardInterrupt


def context(folder: Path, tracker: Recorder | None = None) -> RunContext:
    return RunContext(
        run_dir=folder,
        seed=0,
        device="cpu",
        tracker=tracker or Recorder(),
        store=None,
        console=Console(quiet=True),
        scratch=folder,
    )


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The float network after a short training, and its calibrated form."""
    torch.manual_seed(0)
    module = MobileNetDigits().build(DATA.shape, DATA.num_classes)
    fit(module, DATA, FloatTraining(epochs=3), seed=0)
    model = FloatModel(graph=capture(module, DATA.shape))
    folder = tmp_path_factory.mktemp("calibration")
    observations = Observe(data=DATA, samples=256).run(context(folder), {FloatModel: model})
    calibrate = Calibrate(
        quantizer=QUANTIZER, calibration=Calibration(activation=MinMax()), granularity=PerChannel()
    )
    quantized = calibrate.run(context(folder), {type(observations): observations})
    return {FloatModel: model, QuantizedModel: quantized}


@pytest.fixture(scope="module")
def finished(inputs, tmp_path_factory):
    """The stage's artifact, and what it recorded."""
    tracker = Recorder()
    return STAGE.run(context(tmp_path_factory.mktemp("finetune"), tracker), inputs), tracker.seen


def accuracy(network) -> float:
    with torch.inference_mode():
        found = [(network(x).argmax(1) == y).numpy() for x, y in batches(DATA.test(), 360, DATA)]
    return float(np.concatenate(found).mean())


def same(a, b) -> bool:
    """Graph parameters, scales and zero points equal to the bit."""
    first, second = a.quantized, b.quantized
    grids = [
        torch.equal(left.scale, right.scale) and torch.equal(left.zero_point, right.zero_point)
        for kind in ("activations", "weights")
        for left, right in zip(getattr(first, kind).values(), getattr(second, kind).values(), strict=True)
    ]
    weights = [torch.equal(t, second.graph.params[key]) for key, t in first.graph.params.items()]
    return all(grids) and all(weights)


def test_two_bit_weights_recover(inputs, finished):
    calibrated, trained = inputs[QuantizedModel], finished[0]
    before, after = (accuracy(simulation_of(m.quantized)) for m in (calibrated, trained))
    assert after > before + 0.3
    assert after > 0.75
    assert accuracy(lambda x: execute(inputs[FloatModel].graph, x)) > 0.9  # left as it was


def test_the_program_computes_what_was_trained(finished):
    quantized = finished[0].quantized
    program = lower(quantized, "float")
    x, _ = next(batches(DATA.test(), 64, DATA))
    integer = dequantize_output(program, Interpreter(program).run(quantize_input(program, x.numpy())))
    simulated = simulation_of(quantized)(x).numpy()
    assert (integer.argmax(1) == simulated.argmax(1)).mean() >= 0.98
    assert np.abs(integer - simulated).max() <= 1.01 * float(quantized.qparams(quantized.graph.output).scale)


def test_names_and_levels_are_the_calibrated_ones(inputs, finished):
    before, after = inputs[QuantizedModel].quantized, finished[0].quantized
    assert after.graph.nodes == before.graph.nodes
    for kind in ("activations", "weights"):
        chosen, calibrated = getattr(after, kind), getattr(before, kind)
        assert {n: (q.quant_min, q.quant_max, q.ch_axis) for n, q in chosen.items()} == {
            n: (q.quant_min, q.quant_max, q.ch_axis) for n, q in calibrated.items()
        }


def test_every_epoch_is_recorded(finished):
    _, seen = finished
    assert list(seen) == [1, 2, 3]
    assert set(seen[1]) == {
        "finetune/loss",
        "finetune/top1",
        "finetune/held_out_top1",
        "finetune/learning_rate",
    }
    assert seen[3]["finetune/loss"] < seen[1]["finetune/loss"]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_killed_fine_tuning_resumes_to_the_same_bits(inputs, finished, tmp_path, epoch):
    with pytest.raises(KeyboardInterrupt):
        STAGE.run(context(tmp_path, Recorder(die_at=epoch)), inputs)
    tracker = Recorder()
    resumed = STAGE.run(context(tmp_path, tracker), inputs)
    assert same(resumed, finished[0])
    assert [v["finetune/loss"] for v in tracker.seen.values()] == [
        v["finetune/loss"] for v in finished[1].values()
    ]


def test_the_artifact_survives_the_store(finished, tmp_path):
    finished[0].save(tmp_path)
    assert same(QuantizedModel.load(tmp_path), finished[0])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"recipe": FloatTraining(epochs=0)}, "recipe.epochs=0: must be at least 1"),
        ({"quantizer_learning_rate": 0.0}, "quantizer_learning_rate=0.0: must be positive, or null"),
        ({"quantizer": replace(QUANTIZER, activation=None)}, "activation=None: training rounds activations"),
        ({"quantizer": replace(QUANTIZER, weight=Whole())}, "Whole chooses levels for a whole weight"),
    ],
)
def test_settings_are_checked(settings, text):
    with pytest.raises(ValueError, match=text):
        replace(STAGE, **settings)


@pytest.mark.parametrize("estimator", ["ste", "pact", "lsq", "dsq"])
@pytest.mark.parametrize("training", ["qat_finetune", "qat_scratch"])
def test_the_configuration_puts_it_between_calibrate_and_convert(training, estimator):
    stages = {
        name: s for name, s in built(f"training={training}", f"estimator={estimator}").stages.items() if s
    }
    order = list(stages)
    assert order.index("calibrate") < order.index("finetune") < order.index("convert")
    assert type(stages["finetune"].estimator).__name__.lower() == estimator
    assert (stages["train"].training.epochs == 0) == (training == "qat_scratch")


@pytest.mark.parametrize(
    ("overrides", "initial"),
    [
        (("training=qat_finetune",), "calibrated"),
        (("training=further_then_qat",), "calibrated"),
        (("training=qat_scratch",), "mean"),
        (("training=qat_finetune", "estimator.initial=mean"), "mean"),
        (("training=qat_scratch", "estimator.initial=calibrated"), "calibrated"),
        (("experiment=low_bits/w2a2",), "calibrated"),
    ],
)
@pytest.mark.parametrize("estimator", ["lsq", "dsq"])
def test_learned_steps_start_calibrated_unless_the_weights_are_random(overrides, initial, estimator):
    assert built(f"estimator={estimator}", *overrides).stages["finetune"].estimator.initial == initial


def test_post_training_leaves_it_out():
    assert built().stages["finetune"] is None


@pytest.mark.parametrize("field", ["delay", "freeze_observers", "freeze_batch_norm"])
def test_a_schedule_that_cannot_work_is_refused_by_config_path(field):
    with pytest.raises(
        ConfigError, match=rf"training\.finetune\.schedule\.{field}=1\.0: must be in \[0, 1\)"
    ):
        built("training=qat_finetune", f"training.finetune.schedule.{field}=1.0")


def test_naive_moving_averages_need_no_freeze():
    schedule = built(
        "training=qat_finetune",
        "training.finetune.schedule.batch_norm=naive",
        "training.finetune.schedule.freeze_batch_norm=1.0",
        "estimator=ste",
        "estimator.momentum=0.9",
    ).stages["finetune"]
    assert schedule.estimator == Ste(momentum=0.9)


def test_bfloat16_is_refused_where_whole_numbers_are_computed():
    with pytest.raises(ValueError, match=r"recipe\.autocast=true(.|\n)*Remedy: recipe\.autocast=false"):
        replace(STAGE, recipe=replace(STAGE.recipe, autocast=True))
