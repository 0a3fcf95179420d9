"""The stage prune on real digits: what it makes 0 stays 0, whatever comes after it."""

from dataclasses import replace

import pytest
import torch

from stages.adaround import AdaRound
from stages.artifacts import FloatModel, Observations, QuantizedModel
from stages.bias import BiasCorrection
from stages.calibrate import Calibrate
from stages.compression.magnitude import Magnitude
from stages.compression.schedule import PruningSchedule
from stages.corrections.adaround import Rounding
from stages.data.digits import Digits
from stages.equalize import Equalize
from stages.finetune import Finetune
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.lower import lower
from stages.graph.serialize import load_graph, save_graph
from stages.observe import Observe
from stages.prune import Prune
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.estimators.lsq import Lsq
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.codebook import Codebook
from stages.quant.quantizers.symmetric import Symmetric
from stages.training.fit import FloatTraining
from stages.training.float_network import FloatNetwork

DATA = Digits()
STAGE = Prune(
    data=DATA, method=Magnitude(keep=0.3, score="lamp"), recipe=FloatTraining(epochs=1, learning_rate=0.02)
)


def pruned_of(graph):
    return {key: graph.params[key] for key in graph.pruned}


@pytest.fixture(scope="module")
def graph(digits_inputs):
    return digits_inputs[FloatModel].graph


@pytest.fixture(scope="module")
def pruned(graph):
    network = FloatNetwork(graph)
    names = {key: network.layer_of(key) for key in network.weights()}
    network.mask(Magnitude(keep=0.3, score="lamp").masks(network.weights(), names, 1.0))
    return network.graph()


def test_a_network_in_float_training_is_the_captured_one(graph):
    x = torch.randn(5, *graph.input.shape, generator=torch.Generator().manual_seed(0))
    network = FloatNetwork(graph).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(x), execute(fold_batch_norm(graph), x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("regrow", [False, True])
@pytest.mark.parametrize("schedule", [PruningSchedule(end=0.5), PruningSchedule(end=0.0)])
def test_the_share_stays_and_the_rest_trains(ctx, digits_inputs, graph, regrow, schedule):
    found = replace(STAGE, regrow=regrow, schedule=schedule).run(ctx, digits_inputs).graph
    weights = pruned_of(found)
    total = sum(w.numel() for w in weights.values())
    kept = sum(int((w != 0).sum()) for w in weights.values())
    assert 0 <= round(0.3 * total) - kept <= 2  # a kept weight may be 0 by chance
    folded = fold_batch_norm(graph)
    assert any(not torch.equal(found.params[key], folded.params[key]) for key in weights)


def test_pruning_without_training_only_makes_zeros(ctx, digits_inputs, graph):
    stage = replace(STAGE, recipe=FloatTraining(epochs=0))
    assert not stage.depends_on_threads
    found = stage.run(ctx, digits_inputs).graph
    x = torch.randn(5, *graph.input.shape)
    for key, weight in pruned_of(found).items():
        original = next(t for t in graph.params.values() if t.shape == weight.shape and _agree(t, weight))
        assert (weight == torch.where(weight != 0, original, 0.0)).all(), key
    assert not torch.equal(execute(fold_batch_norm(found), x), execute(fold_batch_norm(graph), x))


def _agree(original, weight):
    return bool((original == weight)[weight != 0].all())


def test_a_mask_is_saved_with_the_network(pruned, tmp_path):
    save_graph(pruned, tmp_path)
    loaded = load_graph(tmp_path)
    assert loaded.pruned == pruned.pruned and loaded.pruned
    for key in loaded.pruned:
        assert torch.equal(loaded.mask(key), pruned.params[key] != 0)


def zeros_stay(quantized, pruned):
    """Zeros of the pruned network are the zero points of the program's levels."""
    program = lower(quantized, "float")
    folded = fold_batch_norm(pruned)
    assert folded.pruned == quantized.graph.pruned and folded.pruned
    for op in program.ops:
        if (key := f"{op.output}.weight") in folded.pruned:
            zero = op.tensors["weight_zero_point"].reshape(-1, *[1] * (op.tensors["weight"].ndim - 1))
            gone = (folded.params[key] == 0).numpy()
            assert gone.any() and ((op.tensors["weight"] == zero) | ~gone).all()


@pytest.mark.parametrize(
    "weight", [Symmetric(bits=4, signed=True), Affine(bits=4, signed=True), Codebook(bits=3)]
)
def test_zeros_stay_through_equalizing_rounding_and_training(ctx, pruned, weight):
    inputs = {FloatModel: FloatModel(graph=pruned)}
    equalized = Equalize().run(ctx, inputs)
    quantizer = WeightsAndActivations(weight=weight, activation=Symmetric(bits=8))
    stage = Calibrate(
        quantizer=quantizer, calibration=Calibration(activation=MinMax()), granularity=PerChannel()
    )
    for start in (inputs[FloatModel], equalized):
        own = {FloatModel: start}
        own[Observations] = Observe(data=DATA, samples=64).run(ctx, own)
        own[QuantizedModel] = stage.run(ctx, own)
        zeros_stay(own[QuantizedModel].quantized, pruned)
    if not isinstance(weight, Codebook):
        rounded = AdaRound(data=DATA, rounding=Rounding(iterations=30, batch_size=256)).run(ctx, own)
        zeros_stay(rounded.quantized, pruned)
    corrected = BiasCorrection(data=DATA).run(ctx, own)
    zeros_stay(corrected.quantized, pruned)
    trained = Finetune(
        data=DATA,
        quantizer=quantizer,
        estimator=Lsq(),
        recipe=FloatTraining(epochs=1, batch_size=256, learning_rate=0.01),
    ).run(ctx, own)
    zeros_stay(trained.quantized, pruned)
