"""Preflight places operators as a run does, and says what to change, the greatest share first."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.backends.native import Native
from stages.backends.native_kernels.drafts import DRAFTS
from stages.backends.reference import Reference
from stages.graph.cost import operations
from stages.graph.lower import lower
from stages.measuring.preflight import Placed, Preflight, inspect_network, inspect_program
from stages.models.mobilenet_digits import MobileNetDigits
from tests.composed import built
from tests.stages.reporting.conftest import make_run


@pytest.fixture(scope="module")
def settings():
    stages = built().stages
    calibrate = stages["calibrate"]
    return {
        "quantizer": calibrate.quantizer,
        "granularity": calibrate.granularity,
        "requantize": "float",
        "backend": Reference(),
    }


def test_a_network_that_the_engine_runs_needs_nothing(settings):
    torch.manual_seed(0)
    found = inspect_network(MobileNetDigits().build((1, 8, 8), 10), (1, 8, 8), **settings)
    assert {one.place for one in found.operators} == {"engine"} and found.share("engine") == 1.0
    assert found.operators[0].name == "features.0.0" and found.operators[0].module.startswith("features.0")
    assert found.advice() == [] and found.exports["onnx_qdq"] == ""
    assert found.figures["model/parameters"] == 19786
    assert found.figures["model/integer_bytes"] < found.figures["model/float_bytes"] / 2
    assert found.milliseconds > 0


class Mixed(nn.Module):
    """A layer, a norm, and a cumulated sum, which stays float."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(16, 16)

    def forward(self, x):
        return torch.cumsum(nn.functional.rms_norm(self.fc(x), (16,)), dim=-1)


def test_operators_go_to_engine_reference_and_island_and_advice_to_the_island_first(settings, monkeypatch):
    torch.manual_seed(0)
    assert {
        one.op for one in inspect_network(Mixed(), (16,), **settings).operators if one.place == "engine"
    } == {
        "linear",
        "rms_norm",
    }
    monkeypatch.delitem(DRAFTS, "rms_norm")
    found = inspect_network(Mixed(), (16,), **settings)
    places = {one.op: one.place for one in found.operators}
    assert places == {"linear": "engine", "rms_norm": "reference", "cumsum": "float island"}
    assert found.share("engine") == 256 / 288 and found.share("float island") == 16 / 288
    first, second = found.advice()
    assert first.startswith("cumsum stays float") and "5.6% of operations: cumsum" in first
    assert second.startswith("rms_norm by the reference's kernel")
    (line,) = (line for line in found.refused_exports() if "onnx_qdq" in line)
    assert line.startswith("export onnx_qdq: no form in ONNX for island (cumsum). Remedy: leave")


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_is_refused_comes_first_with_its_remedy(settings):
    found = inspect_network(Branches(), (4,), **settings)
    assert found.operators == () and found.milliseconds is None
    (line,) = found.advice()
    assert "Remedy: keep forward() free of Python control flow" in line


def test_activations_that_stay_float_are_refused_with_all_operators_listed(settings):
    quantizer = (
        built("quantizer.activation=null", "backend=simulation", "stages.convert=null")
        .stages["calibrate"]
        .quantizer
    )
    torch.manual_seed(0)
    found = inspect_network(Mixed(), (16,), **{**settings, "quantizer": quantizer})
    assert {one.place for one in found.operators} == {
        "unknown"
    } and "quantizer.activation=null" in found.refused[0]


def test_little_shares_are_told_of_together():
    def one(op: str, count: int) -> Placed:
        return Placed(name=f"{op}.0", op=op, module="", place="reference", operations=count)

    found = Preflight(
        operators=(one("linear", 990), one("a", 5), one("b", 5)),
        refused=(),
        exports={"x": "", "y": "no form for a"},
        figures={},
        milliseconds=None,
    )
    assert found.advice() == [
        "linear by the reference's kernel, which is slower: compare backend=onednn; "
        "99.0% of operations: linear.0",
        "a, b by the reference's kernel, which is slower: compare backend=onednn; "
        "little: 1.0% of operations in all",
    ]
    assert found.refused_exports() == ["export y: no form for a"]


def test_the_engine_places_operators_as_it_does_in_a_run(settings):
    """What preflight calls the reference's is what the executable says it leaves to it."""
    torch.manual_seed(0)
    found = inspect_network(Mixed(), (16,), **{**settings, "backend": Native(threads=1)})
    if any("onednn runs instead" in note for note in found.notes):
        pytest.skip("no engine here")
    slow = sorted(
        {
            "island" if one.place == "float island" else one.op
            for one in found.operators
            if one.place != "engine"
        }
    )
    (note,) = found.notes
    assert note.startswith(f"backend native: {', '.join(slow)} by the reference's kernels: ")


def test_a_program_is_inspected_as_it_is():
    program = lower(make_run(["conv", "linear"]).model.quantized, "float")
    found = inspect_program(program, Reference())
    assert [(one.name, one.op) for one in found.operators] == [(op.output, op.op) for op in program.ops]
    graph = operations(make_run(["conv", "linear"]).model.quantized.graph)
    assert {one.name: one.operations for one in found.operators}.items() <= graph.items()
    assert found.share("engine", "reference") == 1.0
    assert found.exports["onnx_qdq"] == "" and found.milliseconds is not None
