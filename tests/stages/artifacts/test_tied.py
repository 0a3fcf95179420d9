"""What a network uses twice counts once, in float and as integers, and what it does not use not at all."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.artifacts import FloatModel, IntegerProgram
from stages.graph.capture import capture
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.lower import lower
from stages.integer.packing import stored_bytes
from tests.stages.corrections.conftest import calibrated


class Tied(nn.Module):
    """One convolution called three times, two linear layers with one weight, and a head that nobody calls."""

    def __init__(self):
        super().__init__()
        self.stem, self.block = nn.Conv2d(2, 6, 1), nn.Conv2d(6, 6, 3, padding=1)
        self.up, self.down, self.unused = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 100)
        self.down.weight = self.up.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = F.relu(self.block(x))
        return self.down(F.relu(self.up(x.mean((2, 3)))))


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return capture(Tied().eval(), (2, 8, 8))


def test_a_shared_parameter_counts_once_and_an_unused_one_not(graph):
    shared = (2 * 6 + 6) + (6 * 6 * 9 + 6) + (6 * 6 + 6 + 6)
    expected = {"model/parameters": float(shared), "model/float_bytes": 4.0 * shared}
    assert expected.items() <= FloatModel(graph=graph).metrics().items()
    assert expected.items() <= FloatModel(graph=fuse(fold_batch_norm(graph))).metrics().items()


@pytest.mark.parametrize("bits", [4, 8])
def test_the_program_stores_a_shared_weight_once(graph, tmp_path, bits):
    x = torch.randn(16, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    program = IntegerProgram(program=lower(calibrated(fuse(fold_batch_norm(graph)), x, bits), "float"))
    program.save(tmp_path)
    fields = {op["output"]: op for op in json.loads((tmp_path / "program.json").read_text())["ops"]}
    assert {name: op["weight_of"] for name, op in fields.items() if "weight_of" in op} == {
        "block:2": "block",
        "block:3": "block",
        "down": "up",
    }
    loaded = IntegerProgram.load(tmp_path)
    for op, saved in zip(loaded.program.ops, program.program.ops, strict=True):
        assert all(np.array_equal(op.tensors[name], tensor) for name, tensor in saved.tensors.items())
    weights = {op.output: op.tensors["weight"] for op in program.program.ops if "weight" in op.tensors}
    others = [
        tensor
        for op in program.program.ops
        for name, tensor in op.tensors.items()
        if name != "weight" and not name.endswith("ratio")
    ]
    expected = sum(stored_bytes(weights[name]) for name in ("stem", "block", "up"))
    assert program.metrics()["model/integer_bytes"] == expected + sum(map(stored_bytes, others))


def test_a_weight_of_an_operator_that_does_not_come_before_is_refused(graph, tmp_path):
    x = torch.randn(16, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    IntegerProgram(program=lower(calibrated(fuse(fold_batch_norm(graph)), x, 8), "float")).save(tmp_path)
    document = json.loads((tmp_path / "program.json").read_text())
    next(op for op in document["ops"] if op["output"] == "down")["weight_of"] = "down"
    (tmp_path / "program.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="'down': its weight is that of 'down', which is not before it"):
        IntegerProgram.load(tmp_path)
