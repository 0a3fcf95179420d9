"""Normalizations written by hand become one operator, of the same float function."""

import pytest
import torch
from torch import nn

from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Graph, Node
from stages.graph.patterns import recognize_norms
from tests.stages.graph.test_capture import Small
from tests.stages.graph.test_rewrites import same_function


class Weighted(nn.Module):
    """Llama's RMSNorm."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(8))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def layer_norm_by_hand(x, axis):
    """Computes x − mean(x) twice."""
    variance = (x - x.mean(axis, keepdim=True)).pow(2).mean(axis, keepdim=True)
    return (x - x.mean(axis, keepdim=True)) / torch.sqrt(variance + 1e-5)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (Weighted(), ["rms_norm"]),
        (lambda x: x / torch.sqrt((x * x).mean(1, keepdim=True) + 1e-3), ["rms_norm"]),
        (lambda x: (x.square().mean(-1, keepdim=True) + 1e-3) ** -0.5 * x, ["rms_norm"]),
        (lambda x: x / x.norm(dim=1, keepdim=True), ["normalize"]),
        (lambda x: x / x.norm(dim=-1, keepdim=True).clamp(min=1e-4), ["normalize"]),
        (lambda x: nn.functional.normalize(x, dim=1), ["normalize"]),
        (lambda x: layer_norm_by_hand(x, -1), ["layer_norm"]),
        (lambda x: layer_norm_by_hand(x, 1), ["mean", "subtract", "rms_norm"]),
        (
            lambda x: x * torch.rsqrt(x.relu().pow(2).mean(-1, keepdim=True) + 1e-5),
            ["table", "mean", "table", "multiply"],
        ),
        (
            lambda x: x * torch.rsqrt(2 * x.pow(2).mean(-1, keepdim=True) + 1e-5),
            ["table", "mean", "table", "multiply"],
        ),
    ],
)
def test_it_is_recognized(body, expected):
    module = Small(body)
    graph = fuse(fold_batch_norm(capture(module, (3, 8, 8))))
    same_function(graph, module, (3, 8, 8))
    assert [node.op for node in graph.nodes[2:]] == expected


def test_a_norm_that_is_expanded_first_is_recognized_too():
    """F.normalize, whose norm is repeated along its dimension before it divides."""
    steps = {
        "squares": (("power", 2.0),),
        "root": (("sqrt",), ("clamp", 1e-12, None)),
        "inverse": (("reciprocal",),),
    }
    tables = {
        name: Node(name=name, op="table", inputs=(source,), attrs={"steps": steps[name]}, shape=shape)
        for name, source, shape in (
            ("squares", "input", (4,)),
            ("root", "sum", (1,)),
            ("inverse", "wide", (4,)),
        )
    }
    nodes = (
        Node(name="input", op="input", shape=(4,)),
        tables["squares"],
        Node(name="sum", op="sum", inputs=("squares",), attrs={"axes": (0,), "keepdim": True}, shape=(1,)),
        tables["root"],
        Node(name="wide", op="take", inputs=("root",), attrs={"axis": 0, "indices": (0,) * 4}, shape=(4,)),
        tables["inverse"],
        Node(name="y", op="multiply", inputs=("input", "inverse"), attrs={"scale": 1.0}, shape=(4,)),
    )
    graph = recognize_norms(Graph(nodes=nodes, params={}, output="y"))
    assert [(node.op, node.attrs) for node in graph.nodes[1:]] == [("normalize", {"axis": 0, "eps": 1e-12})]
    x = torch.randn(3, 4)
    torch.testing.assert_close(execute(graph, x), nn.functional.normalize(x, dim=1))
