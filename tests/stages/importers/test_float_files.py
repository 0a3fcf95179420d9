"""A float file gives the network that onnxruntime computes, and is captured, trained and quantized as any."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from onnx import helper
from torch import nn

from pipeline.errors import PipelineError
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.importers.model import ImportedModel
from tests.stages.importers.files import by_onnxruntime, exported, model, saved


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
        )
        self.branch = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.act = nn.PReLU(8)
        self.classifier = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        y = self.act(self.branch(x) + x)
        y = y * self.squeeze(y)
        z = F.interpolate(F.max_pool2d(y, 3, 2, 1, ceil_mode=True), scale_factor=2.0)[:, :, :8, :8]
        y = torch.cat([y, F.gelu(z)], 1).mean((2, 3))
        return self.classifier(F.dropout(y, 0.1, self.training))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q @ k.transpose(-2, -1)) * 8**-0.5).softmax(-1) @ v
        x = x + y.transpose(1, 2).reshape(n, t, c)
        return self.out(x[:, 0])


@pytest.mark.parametrize("network", [Residual, Attention])
@pytest.mark.parametrize(("batch", "opset"), [(None, 17), (1, 17), (None, 12)])
def test_it_computes_what_onnxruntime_computes(tmp_path, network, batch, opset):
    torch.manual_seed(0)
    x = torch.randn(3, 3, 16, 16)
    path = exported(network(), x, tmp_path / "net.onnx", batch=batch, opset=opset)
    module = ImportedModel(path=str(path)).build((3, 16, 16), 5)
    graph = capture(module, (3, 16, 16))
    samples = 1 if batch else 3
    expected = by_onnxruntime(path, x[:samples].numpy())
    with torch.inference_mode():
        actual = execute(graph, x).numpy()[:samples]
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


def test_layers_bear_the_names_of_the_modules_they_were_exported_from(tmp_path):
    path = exported(Residual(), torch.randn(1, 3, 16, 16), tmp_path / "net.onnx")
    graph = capture(ImportedModel(path=str(path)).build((3, 16, 16), 5), (3, 16, 16))
    assert {"stem.stem.0", "branch", "squeeze.squeeze.1", "classifier"} & {node.name for node in graph.nodes}
    assert "classifier.weight" in graph.params


def test_weights_are_trained_further_and_statistics_move(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "c.weight"], ["a"], name="/c/Conv"),
        helper.make_node("BatchNormalization", ["a", "g", "b", "m", "v"], ["y"], momentum=0.8),
    ]
    rng = np.random.default_rng(0)
    constants = {"c.weight": rng.standard_normal((4, 3, 1, 1)).astype(np.float32)}
    constants |= {name: np.ones(4, np.float32) for name in "gbmv"}
    path = saved(model(nodes, ["n", 3, 2, 2], constants), tmp_path)
    module = ImportedModel(path=str(path)).build((3, 2, 2), 1).train()
    module(torch.randn(8, 3, 2, 2)).sum().backward()
    parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
    assert parameters["c.weight"].grad is not None
    (mean,) = (b for name, b in buffers.items() if name.endswith("running_mean"))
    assert not torch.equal(mean, torch.ones(4))
    (norm,) = (node for node in capture(module, (3, 2, 2)).nodes if node.op == "batch_norm")
    assert norm.attrs["momentum"] == pytest.approx(0.2)


ONE = {
    "auto_pad": ("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"w": (4, 3, 3, 3)}, 17),
    "same_lower": ("Conv", {"auto_pad": "SAME_LOWER", "strides": [2, 2]}, {"w": (4, 3, 2, 2)}, 17),
    "uneven": ("Conv", {"pads": [0, 1, 2, 0]}, {"w": (4, 3, 3, 3)}, 17),
    "transposed": ("ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 0, 0]}, {"w": (3, 4, 3, 3)}, 17),
    "output_padding": (
        "ConvTranspose",
        {"strides": [2, 2], "output_padding": [1, 1]},
        {"w": (3, 4, 3, 3)},
        17,
    ),
    "ceil": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, {}, 17),
    "pool_pads": ("AveragePool", {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1]}, {}, 17),
    "counted": (
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {},
        17,
    ),
    "softmax_old": ("Softmax", {"axis": 1}, {}, 11),
    "softmax": ("Softmax", {"axis": 1}, {}, 13),
    "elu": ("Elu", {"alpha": 0.7}, {}, 17),
    "hard_sigmoid": ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, {}, 17),
    "selu": ("Selu", {}, {}, 17),
    "lrn": ("LRN", {"size": 3, "alpha": 0.1}, {}, 17),
    "space": ("SpaceToDepth", {"blocksize": 2}, {}, 17),
    "norm": ("LayerNormalization", {"axis": -1}, {"w": (6,), "b": (6,)}, 17),
    "instance": ("InstanceNormalization", {}, {"w": (3,), "b": (3,)}, 17),
    "reduce": ("ReduceL2", {"axes": [2, 3], "keepdims": 0}, {}, 13),
    "log_softmax": ("LogSoftmax", {"axis": 2}, {}, 17),
    "clip_old": ("Clip", {"min": -0.5, "max": 0.25}, {}, 8),
    "pad_old": ("Pad", {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 0.5}, {}, 9),
    "pad_reflect": ("Pad", {"pads": [0, 0, 1, 2, 0, 0, 2, 1], "mode": "reflect"}, {}, 9),
    "slice_old": ("Slice", {"starts": [0, 1], "ends": [9, 5], "axes": [1, 3]}, {}, 9),
    "squeeze_old": ("ReduceMax", {"axes": [1], "keepdims": 1}, {}, 9),
}


@pytest.mark.parametrize("case", ONE)
def test_an_operator_computes_what_onnxruntime_computes(tmp_path, case):
    kind, attrs, shapes, opset = ONE[case]
    rng = np.random.default_rng(1)
    constants = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    path = saved(
        model(
            [helper.make_node(kind, ["x", *constants], ["y"], **attrs)],
            ["n", 3, 6, 6],
            constants,
            opset=opset,
        ),
        tmp_path,
    )
    x = rng.standard_normal((2, 3, 6, 6)).astype(np.float32)
    expected = by_onnxruntime(path, x)
    with torch.inference_mode():
        actual = ImportedModel(path=str(path)).build((3, 6, 6), 1)(torch.from_numpy(x)).numpy()
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("place", ["asymmetric", "half_pixel", "align_corners"])
def test_images_are_resized_as_by_onnxruntime_or_refused(tmp_path, mode, place):
    attrs = {"mode": mode, "coordinate_transformation_mode": place}
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **attrs)
    sizes = {"sizes": np.array([2, 3, 9, 4], np.int64)}
    path = saved(model([node], [2, 3, 6, 6], sizes), tmp_path)
    network = ImportedModel(path=str(path))
    if (mode, place) == ("linear", "asymmetric"):
        with pytest.raises(PipelineError, match=r"Resize 'y': mode=linear with asymmetric .* is not read"):
            network.build((3, 6, 6), 1)
        return
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 6)).astype(np.float32)
    with torch.inference_mode():
        actual = network.build((3, 6, 6), 1)(torch.from_numpy(x)).numpy()
    assert np.abs(actual - by_onnxruntime(path, x)).max() <= 1e-5


def test_tokens_are_looked_up(tmp_path):
    table = np.random.default_rng(0).standard_normal((7, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["a"]),
        helper.make_node("ReduceMean", ["a"], ["y"], axes=[1]),
    ]
    path = saved(model(nodes, ["n", 5], {"table": table}, kind=7), tmp_path)
    x = torch.tensor([[0, 1, 2, 6, 6]])
    assert np.allclose(
        ImportedModel(path=str(path)).build((5,), 1)(x).detach(), table[x].mean(1, keepdims=True)
    )


def test_several_inputs_stand_one_after_the_other(tmp_path):
    made = model([helper.make_node("Sub", ["x", "z"], ["y"])], ["n", 3])
    made.graph.input.append(helper.make_tensor_value_info("z", 1, ["n", 3]))
    path = saved(made, tmp_path)
    with pytest.raises(
        PipelineError, match=r"(?s)takes the inputs x, z, .*Remedy: model.inputs=\{x: \[3\], z: \[3\]\}"
    ):
        ImportedModel(path=str(path)).build((6,), 1)
    module = ImportedModel(path=str(path), inputs={"x": (3,), "z": (3,)}).build((6,), 1)
    assert module(torch.arange(6.0)[None]).tolist() == [[-3.0, -3.0, -3.0]]


def test_what_does_not_fit_is_named(tmp_path):
    path = saved(model([helper.make_node("Relu", ["x"], ["y"])], ["n", 3, 4, 4]), tmp_path)
    with pytest.raises(
        PipelineError, match=r"input 'x' takes samples of \[3, 4, 4\], and the data's are \[1, 4, 4\]"
    ):
        ImportedModel(path=str(path)).build((1, 4, 4), 1)
    path = saved(
        model([helper.make_node("TopK", ["x", "k"], ["y", "i"])], ["n", 3], {"k": np.array([2])}), tmp_path
    )
    with pytest.raises(
        PipelineError, match=r"TopK 'y': this operator is not read. Remedy: a network without it"
    ):
        ImportedModel(path=str(path)).build((3,), 1)
    path = saved(
        model([helper.make_node("Reshape", ["x", "s"], ["y"])], ["n", 3], {"s": np.array([0, 7])}), tmp_path
    )
    with pytest.raises(PipelineError, match=r"net.onnx: Reshape 'y': .*shape '\[2, 7\]' is invalid"):
        ImportedModel(path=str(path)).build((3,), 1)
    with pytest.raises(PipelineError, match=r"model.path=gone.onnx: no such file"):
        ImportedModel(path="gone.onnx").build((3,), 1)
