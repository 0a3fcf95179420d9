"""Softmax over the classes at the end is left out, and said; elsewhere it stays."""

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.graph.capture import capture
from stages.graph.execute import execute


class Classifier(nn.Module):
    """One linear layer and what is made of its logits."""

    def __init__(self, last):
        super().__init__()
        self.fc, self.last = nn.Linear(4, 5), last

    def forward(self, x):
        return self.last(self.fc(x))


@pytest.mark.parametrize(
    ("last", "name"),
    [
        (nn.Softmax(1), "softmax"),
        (lambda x: F.log_softmax(x, -1), "log_softmax"),
    ],
)
def test_the_network_gives_logits(last, name, caplog):
    module = Classifier(last).eval()
    with caplog.at_level(logging.INFO):
        graph = capture(module, (4,))
    assert [node.op for node in graph.nodes] == ["input", "linear"]
    assert f"Classifier: {name} at its end is left out: it gives logits" in caplog.text
    x = torch.randn(9, 4)
    with torch.no_grad():
        logits = execute(graph, x)
        assert (logits.argmax(1) == module(x).argmax(1)).all()
        torch.testing.assert_close(logits, module.fc(x))


@pytest.mark.parametrize(
    "last",
    [
        torch.sigmoid,
        lambda x: F.softmax(x, 1) + 1.0,
        lambda x: F.softmax(x.reshape(-1, 5, 1), 1),
        lambda x: F.softmax(x, 1) * x.sum(1, keepdim=True),
    ],
)
def test_what_readers_or_other_dimensions_need_stays(last, caplog):
    with caplog.at_level(logging.INFO):
        graph = capture(Classifier(last), (4,))
    assert {"softmax", "table"} & {node.op for node in graph.nodes}
    assert "left out" not in caplog.text
