"""What is counted, by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from stages.graph.capture import capture
from stages.graph.cost import operations, traced_calls
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse


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


class Islands(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3, padding=1)

    def forward(self, x):
        return torch.cumsum(self.conv(x.flatten(1).reshape(-1, 2, 4, 4, 4)), dim=2)


def test_islands_count_the_products_of_their_calls():
    torch.manual_seed(0)
    graph = fuse(fold_batch_norm(capture(Islands(), (8, 4, 4))))
    counts = operations(graph)
    islands = [node for node in graph.nodes if traced_calls(node)]
    assert {call for node in islands for call in traced_calls(node)} == {"conv3d", "cumsum"}
    # 3 · 4 · 4 · 4 elements of 2 · 27 products each
    assert sum(counts[node.name] for node in islands) - 192 * 54 in (0, 192)
