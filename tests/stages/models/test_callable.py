from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import PipelineError
from pipeline.store.keys import identity
from stages.artifacts import TrainedModel
from stages.capture import Capture
from stages.data.digits import Digits
from stages.graph.lower import lower
from stages.models.base import Model, fingerprint_of, weights_of
from stages.models.callable import TorchModel
from stages.models.weights import weights_fingerprint
from stages.train import Train
from stages.training.fit import FloatTraining
from tests.quantizing import check_parity, fused, quantized


def perceptron(inputs: list[int], classes: int, extra: dict | None = None, name: str = "") -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(inputs[0] * inputs[1] * inputs[2], classes))
    net.extra, net.called = extra, name
    return net


def no_module() -> int:
    return 3


def test_arguments_may_stand_for_what_the_data_says_and_nothing_else_is_passed():
    args = {
        "inputs": "data.shape",
        "classes": "data.num_classes",
        "extra": {"sizes": ["data.height", "data.width", "data.channels", 7]},
        "name": "data.csv",
    }
    module = TorchModel(target=perceptron, args=args).build((3, 8, 9), 5)
    assert module[1].weight.shape == (5, 216)
    assert module.extra == {"sizes": [8, 9, 3, 7]} and module.called == "data.csv"
    assert isinstance(TorchModel(target=nn.ReLU).build((3, 8, 8), 5), nn.ReLU)
    with pytest.raises(PipelineError, match=r"data.height of samples of shape \[4\], which have none"):
        TorchModel(target=perceptron, args={"inputs": "data.height"}).build((4,), 5)


def test_weights_are_loaded_from_under_a_key(tmp_path):
    state = {"1.weight": torch.ones(2, 4), "1.bias": torch.zeros(2)}
    torch.save({"a": {"module." + n: t for n, t in state.items()}, "b": state}, tmp_path / "a.pt")
    args = {"inputs": [1, 2, 2], "classes": 2}
    module = TorchModel(target=perceptron, args=args, weights=str(tmp_path / "a.pt"), key="a").build(
        (1, 2, 2), 2
    )
    assert torch.equal(module[1].weight, torch.ones(2, 4))


def test_what_fails_or_gives_no_module_is_named_with_the_remedy():
    with pytest.raises(
        PipelineError, match=r"perceptron: calling it with inputs=3 failed: TypeError: "
    ) as error:
        TorchModel(target=perceptron, args={"inputs": 3}).build((1, 2, 2), 2)
    assert "Remedy: model.args={…}; it takes (inputs: " in str(error.value)
    with pytest.raises(PipelineError, match=r"no_module: gives a int, not a torch.nn.Module.\nRemedy: name"):
        TorchModel(target=no_module).build((1, 2, 2), 2)


class Plain:
    """No dataclass, and `build` alone."""

    def __init__(self, width: int = 4):
        self.width = width

    def build(self, shape, num_classes):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, self.width), nn.Linear(self.width, num_classes))


class Weighted(Plain):
    def __init__(self, weights: str):
        super().__init__()
        self.weights = weights


def stage(model: Model) -> Train:
    return Train(model=model, data=Digits(), training=FloatTraining(epochs=1))


def test_a_class_needs_build_alone_and_its_attributes_are_part_of_the_key(tmp_path):
    assert isinstance(Plain(), Model) and not isinstance(object(), Model)
    assert weights_of(Plain()) is None and fingerprint_of(Plain()) == ""
    assert identity(stage(Plain()), 1) == identity(stage(Plain()), 1) != identity(stage(Plain(5)), 1)
    assert __name__ in identity(stage(Plain()), 1)["code"]
    assert stage(Plain()).depends_on_threads


def test_the_weights_of_a_class_without_fingerprint_are_part_of_the_key(tmp_path):
    path = tmp_path / "w.safetensors"
    keys = []
    for value in (0.0, 1.0):
        save_file({"w": torch.full((1,), value)}, path)
        assert fingerprint_of(Weighted(str(path))) == weights_fingerprint(str(path))
        keys.append(identity(stage(Weighted(str(path))), 1))
    assert keys[0] != keys[1]
    with pytest.raises(
        PipelineError, match=r"initial_weights=random: the weights of Weighted cannot be left"
    ):
        Train(
            model=Weighted(str(path)), data=Digits(), training=FloatTraining(), initial_weights="random"
        ).run(None, {})


def test_a_callable_is_known_by_its_name_and_its_source():
    key = identity(stage(TorchModel(target=perceptron)), 1)
    assert key["config"]["model"]["target"] == f"{__name__}.perceptron" and __name__ in key["code"]
    assert "torch" in identity(stage(TorchModel(target=nn.ReLU)), 1)["libraries"]


class Several(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        y = self.fc(x.flatten(1))
        return {"features": x.flatten(1), "logits": y}


def test_of_several_results_the_model_says_which_counts(ctx):
    def captured(output: str | int | None):
        model = TorchModel(target=Several, output=output)
        stage = Capture(model=model, data=Digits())
        stage.check()
        return stage.run(ctx, {TrainedModel: TrainedModel.of(Several())}).graph

    graph = captured("logits")
    assert graph[graph.output].shape == (10,)
    for other in ("features", None):
        with pytest.raises(PipelineError, match=r"output is \(N, 64\), and the data has 10 classes"):
            captured(other)


class TwoInputs(nn.Module):
    """Words that a mask leaves out, and their mean."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)

    def forward(self, input_ids, attention_mask):
        kept = attention_mask.unsqueeze(-1).float()
        return self.head((self.words(input_ids) * kept).sum(1) / kept.sum(1).clamp(min=1.0))


def test_several_inputs_stand_one_after_the_other():
    model = TorchModel(target=TwoInputs, inputs={"input_ids": (5,), "attention_mask": (5,)})
    torch.manual_seed(0)
    module = model.build((10,), 3)
    x = torch.randint(0, 20, (64, 10), generator=torch.Generator().manual_seed(1))
    x[:, 5:] = x[:, 5:] % 2
    x[0, :5] = 19
    torch.testing.assert_close(module(x), module.network(x[:, :5], x[:, 5:]))
    graph = fused(module, (10,), torch.int64)
    program = lower(quantized(graph, x.float()), "float")
    assert not [op for op in program.ops if op.op == "island"]
    check_parity(program, x.float())


@pytest.mark.parametrize("size", [0, -4])
def test_an_input_without_numbers_is_refused(size):
    model = TorchModel(target=TwoInputs, inputs={"a": (size,), "b": (4,)})
    with pytest.raises(PipelineError, match=rf"model.inputs.a=\[{size}\]: sizes must be at least 1. Remedy"):
        model.build((4,), 2)


def test_a_name_that_the_data_does_not_have_is_told_where_the_call_fails():
    model = TorchModel(target=perceptron, args={"inputs": "data.shape", "classes": "data.num_clases"})
    with pytest.raises(
        PipelineError, match=r"'data.num_clases' stands for nothing; did you mean 'data.num_clas"
    ):
        model.build((1, 2, 2), 2)


def test_inputs_have_to_fill_a_sample():
    model = TorchModel(target=TwoInputs, inputs={"input_ids": (5,), "attention_mask": (5,)})
    with pytest.raises(PipelineError, match=r"input_ids \[5\], attention_mask \[5\] are 10 .* has 12"):
        model.build((12,), 3)


def test_what_comes_trained_is_not_trained(ctx):
    model = TorchModel(target=ready_made, pretrained=True)
    stage = Train(model=model, data=Digits(), training=FloatTraining(epochs=1))
    assert not stage.depends_on_threads
    state = stage.run(ctx, {}).state
    assert state["1.weight"].eq(0.25).all()
    alone = replace(stage, initial_weights="random")
    with pytest.raises(PipelineError, match=r"initial_weights=random: .*model\.pretrained=false"):
        alone.run(ctx, {})
    trained = replace(stage, model=replace(model, pretrained=False)).run(ctx, {}).state
    assert not trained["1.weight"].eq(0.25).all()


def ready_made() -> nn.Module:
    """A network whose weights are set."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.constant_(net[1].weight, 0.25)
    return net
