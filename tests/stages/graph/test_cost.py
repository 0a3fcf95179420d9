"""What is counted, by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from stages.graph.capture import capture
from stages.graph.cost import operations
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Graph, Node


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        y = self.conv(x).relu()
        y = F.avg_pool2d(y, 2).flatten(2).transpose(1, 2)  # (N, 9, 6)
        return self.fc(y @ y.transpose(1, 2) @ y).mean(1)


def test_layers_and_products_count_multiply_accumulates_and_all_else_elements():
    torch.manual_seed(0)
    graph = fuse(fold_batch_norm(capture(Net(), (4, 6, 6))))
    counts = operations(graph)
    by_op: dict[str, list[int]] = {}
    for node in graph.nodes:
        by_op.setdefault(node.op, []).append(counts[node.name])
    assert by_op["input"] == [0]
    assert by_op["conv2d"] == [6 * 6 * 6 * 2 * 9]
    assert by_op["avg_pool2d"] == [6 * 3 * 3]
    assert by_op["matmul"] == [9 * 9 * 6, 9 * 6 * 9]
    assert by_op["linear"] == [9 * 5 * 6]
    assert by_op["mean"] == [5]


def test_islands_that_multiply_count_their_products():
    nodes = (
        Node(name="input", op="input", shape=(3, 8)),
        Node(
            name="a",
            op="aten",
            inputs=("input", "input"),
            attrs={"call": ("bmm.default", (), (), None, ())},
            shape=(3, 3),
        ),
        Node(
            name="b",
            op="aten",
            inputs=("a",),
            attrs={"call": ("cumsum.default", (), (), None, ())},
            shape=(3, 3),
        ),
        Node(
            name="c",
            op="aten",
            inputs=("input",),
            attrs={"call": ("conv3d.default", (), (), None, ())},
            params={"p0": "w", "p1": "b"},
            shape=(2, 5),
        ),
    )
    graph = Graph(nodes=nodes, params={"w": torch.zeros(2, 3, 1, 2, 2), "b": torch.zeros(2)}, output="c")
    assert operations(graph) == {"input": 0, "a": 9 * 8, "b": 9, "c": 10 * 12}
