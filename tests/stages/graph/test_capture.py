"""A captured graph computes what the module computes, bears its names, and refuses what it cannot say."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.graph.capture import capture
from stages.graph.execute import compute, execute
from stages.graph.fold import fold_batch_norm

FUNCTIONS = (
    F.hardswish,
    F.hardsigmoid,
    torch.sigmoid,
    torch.tanh,
    torch.exp,
    torch.abs,
    torch.neg,
    F.silu,
    F.mish,
    F.gelu,
    partial(F.gelu, approximate="tanh"),
    partial(F.leaky_relu, negative_slope=0.2),
    partial(F.elu, alpha=0.5),
    F.selu,
    partial(F.celu, alpha=2.0),
    partial(F.softplus, beta=2.0),
    F.logsigmoid,
    partial(F.softshrink, lambd=0.3),
    F.hardshrink,
    partial(F.threshold, threshold=0.1, value=-2.0),
    partial(torch.pow, exponent=2),
    partial(torch.pow, 2.0),
    torch.square,
    torch.sin,
    torch.cos,
    torch.erf,
    torch.exp2,
    torch.expm1,
    torch.atan,
    torch.asinh,
    torch.floor,
)


class Small(nn.Module):
    """A convolution before whatever `body` does with its result."""

    def __init__(self, body):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.conv(x))


class Shifted(nn.Module):
    """Adds a tensor to every sample."""

    def __init__(self, shift):
        super().__init__()
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


class ClassToken(nn.Module):
    """A learned vector before those of every sample."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.rand(1, 1, 64))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        return torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def ops(graph):
    return [node.op for node in graph.nodes]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (F.relu, ["clamp"]),
        (F.relu6, ["clamp"]),
        (F.hardtanh, ["clamp"]),
        (lambda x: torch.clamp(x, max=1.0), ["clamp"]),
        (lambda x: x + F.relu(x), ["clamp", "add"]),
        (lambda x: torch.cat([x, F.relu(x)], dim=1), ["clamp", "concat"]),
        (lambda x: torch.cat([x, x], dim=-1), ["concat"]),
        (lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True), ["max_pool2d"]),
        (lambda x: F.avg_pool2d(x, 3, 2, 1), ["avg_pool2d"]),
        (lambda x: F.adaptive_avg_pool2d(x, 2), ["avg_pool2d"]),
        (lambda x: x.mean((2, 3)), ["avg_pool2d", "reshape"]),
        (lambda x: x.mean((-1, -2), keepdim=True), ["avg_pool2d"]),
        (lambda x: torch.flatten(x, 1), ["reshape"]),
        (lambda x: x.view(x.size(0), 8, -1), ["reshape"]),
        (lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2)), ["slice", "slice", "pad"]),
        (lambda x: x[:, 1:3, -2:], ["slice", "slice"]),
        (lambda x: F.dropout(x, training=False).contiguous(), ["dropout"]),
        (lambda x: F.dropout(x, 0.0) + F.rrelu(x), ["table", "add"]),
        (lambda x: torch.fmax(x, x.relu()), ["clamp", "maximum"]),
        (nn.RMSNorm((8, 8)), ["reshape", "rms_norm", "reshape"]),
        (lambda x: x > 0, ["table"]),
        (nn.Sequential(nn.Dropout(0.0), nn.Dropout2d(0.3)), ["dropout"]),
        (nn.Conv2d(4, 4, 3, stride=2, padding="valid", dilation=2, groups=2, bias=False), ["conv2d"]),
        (nn.Conv2d(4, 4, 5, padding="same", groups=4), ["conv2d"]),
        (nn.Sequential(nn.Flatten(), nn.Linear(256, 5)), ["reshape", "linear"]),
        (nn.BatchNorm2d(4), ["batch_norm"]),
        (lambda x: x + 1.0, ["table"]),
        (Shifted(torch.rand(1, 4, 8, 8)), ["constant", "add"]),
        (Shifted(torch.rand(4, 1, 1)), ["scale_channels"]),
        (Shifted(torch.rand(1, 1, 8)), ["scale_channels"]),
        (lambda x: x - x.relu(), ["clamp", "subtract"]),
        (lambda x: x + x.mean((2, 3), keepdim=True), ["avg_pool2d", "add"]),
        (lambda x: torch.add(x, x.relu(), alpha=0.3), ["clamp", "table", "add"]),
        (lambda x: torch.sub(x, 3, alpha=2), ["table"]),
        (lambda x: 1 / x.exp(), ["table", "table", "table"]),
        (lambda x: x / x.exp(), ["table", "table", "multiply"]),
        (lambda x: torch.maximum(x.mean(1, keepdim=True), x), ["mean", "maximum"]),
        (lambda x: torch.minimum(x, -x), ["table", "minimum"]),
        (lambda x: x.clamp(min=0.5), ["table"]),
        (lambda x: x.sum((1, 2)) + x.amax((1, 2)), ["sum", "amax", "add"]),
        (lambda x: x.max(1)[0] - x.amin(1), ["amax", "amin", "subtract"]),
        (nn.RMSNorm(8), ["rms_norm"]),
        (nn.GroupNorm(2, 4), ["group_norm"]),
        (nn.InstanceNorm2d(4), ["group_norm"]),
        (nn.GLU(1), ["slice", "slice", "table", "multiply"]),
        (lambda x: x.var(-1), ["mean", "subtract", "table", "mean", "table"]),
        (lambda x: x.std(1, correction=0), ["mean", "subtract", "table", "mean", "table"]),
        (lambda x: x.norm(dim=1), ["table", "sum", "table"]),
        (ClassToken(), ["reshape", "constant", "concat"]),
        (lambda x: 1 - x / 2, ["table", "table"]),
        (lambda x: x * F.relu6(x + 3) / 6, ["table", "clamp", "multiply", "table"]),
        (lambda x: x * x.mean((2, 3), keepdim=True), ["avg_pool2d", "multiply"]),
        (lambda x: x.mean(1), ["mean"]),
        (lambda x: x.mean((1, -1), keepdim=True), ["mean"]),
        (lambda x: F.interpolate(x, scale_factor=2), ["upsample_nearest"]),
        (nn.Upsample(size=(16, 24), mode="nearest-exact"), ["upsample_nearest"]),
        (nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1), ["insert_zeros", "pad", "conv2d"]),
        (nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (0, 1), groups=2, dilation=2), ["insert_zeros", "conv2d"]),
        (nn.ConvTranspose2d(4, 4, 1, 2, 1, groups=4), ["insert_zeros", "slice", "conv2d"]),
        (nn.ConvTranspose2d(4, 4, 2, padding=3), ["slice", "conv2d"]),
        (
            nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 8, 3, padding="same", dilation=2), nn.BatchNorm1d(8)),
            ["reshape", "reshape", "conv2d", "batch_norm", "reshape"],
        ),
        (
            nn.Sequential(nn.Flatten(2), nn.MaxPool1d(2), nn.AvgPool1d(3, 2, 1), nn.AdaptiveAvgPool1d(1)),
            ["reshape", "reshape", "max_pool2d", "avg_pool2d", "avg_pool2d", "reshape"],
        ),
        (
            nn.Sequential(nn.Flatten(2), nn.ConvTranspose1d(4, 2, 3, 2, 1), nn.Upsample(scale_factor=2)),
            ["reshape", "reshape", "insert_zeros", "conv2d", "upsample_nearest", "reshape"],
        ),
        (lambda x: x.permute(0, 2, 3, 1), ["permute"]),
        (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), ["slice", "slice", "concat"]),
        (lambda x: x.split([1, 3], 1)[1] + x.split(3, 1)[0], ["slice", "slice", "add"]),
        (lambda x: x[:, 1] + x.unbind(1)[-1], ["slice", "reshape", "slice", "reshape", "add"]),
        (nn.Linear(8, 5), ["linear"]),
        (nn.LayerNorm(8), ["layer_norm"]),
        (nn.LayerNorm((8, 8), elementwise_affine=False), ["reshape", "layer_norm", "reshape"]),
        (lambda x: (x @ x.transpose(-1, -2)).softmax(-1), ["permute", "matmul", "softmax"]),
        (
            lambda x: F.scaled_dot_product_attention(x, x, x, scale=0.3),
            ["permute", "matmul", "softmax", "matmul"],
        ),
    ],
)
def test_each_operator_is_captured(body, expected):
    """capture() itself compares the graph with the module; here the operators are what is checked."""
    graph = capture(Small(body), (3, 8, 8))
    assert ops(graph) == ["input", "conv2d", *expected]


def test_shapes_are_those_of_one_sample():
    graph = capture(Small(nn.Sequential(nn.MaxPool2d(2), nn.Flatten())), (3, 8, 8))
    assert [node.shape for node in graph.nodes] == [(3, 8, 8), (4, 8, 8), (4, 4, 4), (64,)]


def test_a_value_bears_the_path_of_its_module():
    graph = capture(Small(nn.Sequential(nn.ReLU(), nn.Conv2d(4, 2, 1))), (3, 8, 8))
    assert [node.name for node in graph.nodes] == ["input", "conv", "body.0", "body.1"]


def test_a_module_used_twice_gives_two_values():
    relu = nn.ReLU()
    graph = capture(Small(nn.Sequential(relu, nn.Conv2d(4, 4, 1), relu)), (3, 8, 8))
    assert len({node.name for node in graph.nodes}) == len(graph.nodes) == 5


@pytest.mark.parametrize("function", list(FUNCTIONS))
def test_each_function_is_a_table_that_computes_it(function):
    """capture() compares values; here its table is compared over a wide range."""
    graph = capture(Small(function), (3, 8, 8))
    assert ops(graph) == ["input", "conv2d", "table"]
    x = torch.linspace(-8, 8, 4 * 64).reshape(1, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(compute(graph, graph.nodes[-1], x), function(x))


def test_what_nothing_reads_is_left_out():
    """The reshape between a convolution and its BatchNorm, over sequences."""
    graph = capture(Small(nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 8, 3), nn.BatchNorm1d(8))), (3, 8, 8))
    assert all(graph.users(node.name) or node.name == graph.output for node in graph.nodes)
    assert [node.op for node in fold_batch_norm(graph).nodes][-2:] == ["conv2d", "reshape"]


def test_in_place_change_is_seen_by_later_readers():
    """``relu_`` changes x itself: the sum reads the changed value on both sides."""

    def body(x):
        y = F.relu(x, inplace=True)
        return x + y

    graph = capture(Small(body), (3, 8, 8))
    assert graph[graph.output].inputs == ("relu_", "relu_")


def test_the_batch_may_have_any_size():
    module = Small(nn.Sequential(nn.Flatten(), nn.Linear(256, 5))).eval()
    graph = capture(module, (3, 8, 8))
    x = torch.randn(7, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(execute(graph, x), module(x))


def test_capture_leaves_the_module_as_it_was():
    module = Small(nn.BatchNorm2d(4)).train()
    graph = capture(module, (3, 8, 8))
    graph.params["conv.weight"].zero_()
    assert module.training
    assert module.conv.weight.abs().sum() > 0
    assert module.body.running_mean.eq(0).all()


def test_all_that_cannot_be_taken_is_refused_together_with_op_and_module_path():
    body = nn.Sequential(Called(F.dropout), nn.ReLU(), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(PipelineError) as error:
        capture(Small(body), (3, 8, 8))
    text = str(error.value)
    assert "dropout in body.0: drops values in evaluation too" in text
    assert "batch_norm in body.2" not in text, "what only follows from a refused operator is not listed"
    with pytest.raises(
        PipelineError, match=r"cannot be taken as it is:\n  batch_norm in body: has no running"
    ):
        capture(Small(nn.BatchNorm2d(4, track_running_stats=False)), (3, 8, 8))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda x: torch.cumsum(x, 1), "has no integer form"),
        (
            lambda x: torch.where(x > 0, x, x - 1),
            "chooses between two values; only a number in the place of one has an integer form",
        ),
        (nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv3d(1, 2, 3)), "has no integer form"),
        (lambda x: x.topk(2, dim=1)[0], "has no integer form"),
        (lambda x: torch.fft.rfft2(x).abs(), "computes with complex numbers"),
    ],
)
def test_a_variant_without_integer_form_is_an_island_that_says_why(body, reason):
    """capture() compares the graph with the module."""
    graph = capture(Small(body), (3, 8, 8))
    assert reason in [node.attrs["why"] for node in graph.nodes if node.op == "aten"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (lambda x: x.mean(0, keepdim=True).expand(2, 4, 8, 8), "batch"),
        (lambda x: x - x.mean((0, 2, 3), keepdim=True), "no dimension of the batch: it mixes the samples"),
        (lambda x: x.flatten(1) @ x.flatten(1).T, "2 dimensions of the batch: it mixes the samples"),
        (lambda x: x[1:], "batch"),
        (lambda x: x.flip(0), "works along the batch dimension"),
        (lambda x: x.reshape(4, -1), "mixes the samples"),
        (lambda x: x.transpose(0, 1), "the result: its first dimension is not the batch"),
        (lambda x: torch.ones(3), "the result: does not depend on the input"),
        (lambda x: x + torch.rand_like(x), "draws random numbers in evaluation"),
        (lambda x: F.pad(x, (0, 0) * 3 + (0, 1)), "no dimension of the batch"),
        (lambda x: x + torch.arange(len(x)).reshape(-1, 1, 1, 1), "one of two gets another result alone"),
        (lambda x: x + torch.arange(2.0, 2.0 + len(x)).reshape(-1, 1, 1, 1), "depends on the number of"),
        (nn.Sequential(nn.Flatten(2), nn.LSTM(64, 4, batch_first=True)), "is recurrent"),
        (
            lambda x: F.dropout(x, 0.3),
            r"in evaluation too.*Write F.dropout\(x, 0.3, training=self.training\)",
        ),
        (lambda x: F.dropout2d(x), r"F.dropout2d is on unless .* or nn.Dropout2d\(0.5\)"),
        (lambda x: F.rrelu(x, training=True), "draws random numbers in evaluation; write training="),
        (lambda x: F.alpha_dropout(x, 0.2, training=True), "in evaluation too"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.1), "if self.training else 0.0"),
    ],
)
def test_what_mixes_samples_or_draws_numbers_is_refused(body, reason):
    with pytest.raises(PipelineError, match=reason):
        capture(Small(body), (3, 8, 8))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        # the attention of every vision transformer of timm: the batch moves inwards and back
        (
            lambda x: x.flatten(1).reshape(len(x), 8, 2, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)[0],
            ["reshape", "reshape", "permute", "slice", "reshape"],
        ),
        # windows, merged with the batch and taken apart again
        (
            lambda x: F.relu(x.view(len(x), 4, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, 4)).view(
                len(x), 64, 4
            ),
            ["reshape", "permute", "reshape", "clamp", "reshape"],
        ),
        (lambda x: F.relu(x.permute(2, 3, 0, 1)).permute(2, 3, 0, 1), ["permute", "clamp", "permute"]),
        (lambda x: x.transpose(0, 1).softmax(0).transpose(0, 1), ["softmax"]),
        (lambda x: torch.cat([x, torch.zeros(len(x), 1, 8, 8)], 1), ["constant", "concat"]),
        (lambda x: x.flatten(2) + torch.arange(64.0).reshape(1, 64).sin(), ["reshape", "scale_channels"]),
    ],
)
def test_the_batch_may_move_and_merge(body, expected):
    assert ops(capture(Small(body), (3, 8, 8)))[2:] == expected


def test_weights_made_of_weights_are_one_weight():
    module = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
    graph = capture(nn.Sequential(module, nn.ReLU(), module), (6,))
    first, second = (node for node in graph.nodes if node.op == "linear")
    assert first.params["weight"] == second.params["weight"]
    torch.testing.assert_close(graph.param(first, "weight"), module.weight)
    assert first.params["weight"] not in graph.frozen


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_float_types_are_cast_with_a_word(dtype, caplog):
    module = Small(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))).to(dtype)
    with caplog.at_level("INFO"):
        graph = capture(module, (3, 8, 8))
    assert all(tensor.dtype == torch.float32 for tensor in graph.params.values())
    assert f"cast from {str(dtype).removeprefix('torch.')} to float32" in caplog.text
    assert module.conv.weight.dtype == dtype


@pytest.mark.parametrize(
    ("gives", "output", "expected"),
    [
        (lambda x: (F.relu(x),), None, "clamp"),
        (lambda x: [F.relu(x), x.tanh()], None, "clamp"),
        (lambda x: [F.relu(x), x.tanh()], "1", "table"),
        (lambda x: {"logits": F.relu(x), "aux": x.tanh()}, None, "clamp"),
        (lambda x: {"none": None, "deep": {"aux": x.tanh()}}, None, "table"),
        (lambda x: {"logits": F.relu(x), "deep": {"aux": x.tanh()}}, "deep.aux", "table"),
        (lambda x: {"logits": F.relu(x), "deep": {"aux": x.tanh()}}, "aux", "table"),
    ],
)
def test_one_of_several_results_is_taken(gives, output, expected):
    graph = capture(Small(gives), (3, 8, 8), output=output)
    assert graph[graph.output].op == expected


def test_a_result_that_there_is_not_is_refused_with_the_names():
    with pytest.raises(PipelineError, match=r"model.output=other: .*\nRemedy: one of a, b"):
        capture(Small(lambda x: {"a": x.relu(), "b": x.tanh()}), (3, 8, 8), output="other")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (nn.Conv2d(5, 2, 1), r"RuntimeError: .*5.*\n"),
        (nn.Sequential(nn.Flatten(), nn.Linear(65, 3)), r"RuntimeError: .*65.*\n"),
        (lambda x: {}[0], r"KeyError: 0\n"),
    ],
)
def test_a_module_that_does_not_take_such_samples_is_not_called_untraceable(body, said, capfd):
    with pytest.raises(
        PipelineError, match=rf"model: Small fails on input \('N', 3, 8, 8\): {said}Remedy: give"
    ):
        capture(Small(body), (3, 8, 8))
    assert capfd.readouterr() == ("", "")


def test_a_module_of_two_inputs_is_told_how_to_name_them():
    class Two(nn.Module):
        def forward(self, left, right, scale=1.0):
            return left + right

    with pytest.raises(
        PipelineError, match=r"Two fails .*\nRemedy: model.inputs=\{left: \[SHAPE\], right: \["
    ):
        capture(Two(), (4,))


@pytest.mark.parametrize("result", [None, (), {"shape": 3}])
def test_a_module_without_a_result_is_refused(result):
    with pytest.raises(PipelineError, match=r"model: Small returns no tensor .*\nRemedy: let forward"):
        capture(Small(lambda x: result), (3, 8, 8))


def test_a_result_without_numbers_is_refused():
    with pytest.raises(
        PipelineError, match=r"model: Small gives \('N', 0, 8, 8\), which holds no .*\nRemedy"
    ):
        capture(Small(lambda x: x[:, :0]), (3, 8, 8))


def test_a_result_without_a_name_is_not_asked_for_by_one():
    with pytest.raises(
        PipelineError, match=r"model.output=logits: Small gives one tensor.*\nRemedy: model.o"
    ):
        capture(Small(nn.ReLU()), (3, 8, 8), output="logits")


def test_weights_that_are_not_finite_are_named():
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    module[1].weight.data[0, 0] = float("nan")
    with pytest.raises(
        PipelineError, match=r"model: Sequential gives NaN .*in its weights, 1.weight.\nRemedy"
    ):
        capture(module, (3, 2, 2))


def test_control_flow_on_values_is_refused_with_the_remedy(capfd):
    def body(x):
        return x if x.sum() > 0 else -x

    with pytest.raises(PipelineError, match=r"cannot be traced by torch\.export.*\n.*Remedy"):
        capture(Small(body), (3, 8, 8))
    assert capfd.readouterr() == ("", "")


def test_lazy_layers_are_refused_with_the_remedy():
    with pytest.raises(PipelineError, match=r"without a shape: body.weight, body.bias.\nRemedy: run it once"):
        capture(Small(nn.LazyConv2d(4, 3)), (3, 8, 8))


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript_inside_is_refused_with_the_remedy():
    with pytest.raises(
        PipelineError, match=r"Small holds TorchScript.*: body.\nRemedy: build the module in Py"
    ):
        capture(Small(torch.jit.script(nn.ReLU())), (3, 8, 8))


def test_nan_weights_are_refused():
    module = Small(nn.ReLU())
    module.conv.weight.data[0] = float("nan")
    with pytest.raises(PipelineError, match="NaN or infinity"):
        capture(module, (3, 8, 8))


class NoRegisters(nn.Module):
    """Optional tokens, of which there are none, before those of the input."""

    def __init__(self):
        super().__init__()
        self.registers = nn.Parameter(torch.empty(1, 0, 4))
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        tokens = torch.cat([self.registers.expand(len(x), -1, -1), self.fc(x)], 1)
        return torch.cat([tokens[:, :0], self.fc(tokens[:, 0:])], 1)


def test_parts_without_elements_are_left_out():
    graph = capture(NoRegisters(), (3, 4))
    assert [node.op for node in graph.nodes] == ["input", "linear", "linear"]
