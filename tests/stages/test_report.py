"""The report stage writes its files, records them, and shows what the page shows."""

import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console as RichConsole

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.runner import check_wiring
from pipeline.stage import Stage
from pipeline.tracking.null import Null
from stages.artifacts import (
    IntegerProgram,
    LayerParity,
    Metrics,
    Observations,
    Parity,
    QuantizedModel,
    Verdict,
)
from stages.data.noise import Noise
from stages.graph.ir import Graph, Node
from stages.graph.quantized import QuantizedGraph
from stages.integer.program import Program, Value
from stages.quant.qparams import QParams
from stages.report import Report


@dataclass(frozen=True)
class Recorder(Null):
    """Remembers the files it is given."""

    files: list[Path] = field(default_factory=list)

    def artifact(self, path, folder=""):
        assert path.exists()
        self.files.append(path)


@pytest.fixture
def inputs():
    graph = Graph(nodes=(Node(name="input", op="input", shape=(1, 8, 8)),), params={}, output="input")
    zero = torch.tensor(0, dtype=torch.int32)
    qparams = QParams(scale=torch.tensor(0.1), zero_point=zero, quant_min=-127, quant_max=127)
    quantized = QuantizedGraph(graph=graph, activations={"input": qparams}, weights={})
    parity = LayerParity(
        name="input",
        op="input",
        simulated_minus_integer={0: 9, 5: 1},
        reference_minus_backend={},
        sqnr_db=20.0,
    )
    values = {"float/top1": 0.91, "integer/top1": 0.9, "integer/agreement": 0.98}
    return {
        Observations: Observations(graph=graph, statistics={}, sample_ids=()),
        QuantizedModel: QuantizedModel(quantized=quantized),
        Metrics: Metrics(values=values, notes=("a backend fell back",)),
        Parity: Parity(layers=(parity,), samples=10, agreeing=10),
    }


def run(stage, inputs, directory):
    tracker, terminal = Recorder(), io.StringIO()
    console = Console(rich=RichConsole(file=terminal, width=100))
    ctx = RunContext(run_dir=directory, seed=0, device="cpu", tracker=tracker, store=None, console=console)
    assert stage.run(ctx, inputs) is None
    return tracker.files, terminal.getvalue()


def test_it_is_a_stage():
    assert isinstance(Report(), Stage)
    assert Report.cacheable is False
    with pytest.raises(ValueError, match="consumes Metrics, which no stage before it produces"):
        check_wiring([Report()])


def test_page_and_plots_are_written_and_recorded(inputs, tmp_path):
    recorded, _ = run(Report(), inputs, tmp_path)
    assert recorded == [tmp_path / "report.html", tmp_path / "plots"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {"activations.svg", "errors.svg"}


def test_the_terminal_shows_the_closing_table_and_the_notes(inputs, tmp_path):
    _, shown = run(Report(), inputs, tmp_path)
    rows = {cells[1].strip(): cells[2:] for line in shown.splitlines() if len(cells := line.split("│")) > 2}
    assert [cell.strip() for cell in rows["top-1"]] == ["91.00%", "–", "90.00%", ""]
    assert rows["top-1 as simulated"][2].strip() == "98.00%"
    assert "note: a backend fell back" in shown


def program_alone(inputs):
    value = Value(name="x", shape=(4,), scale=0.1, zero_point=0, quant_min=-128, quant_max=127)
    program = Program(values={"x": value}, ops=(), input="x", output="x")
    return {Metrics: inputs[Metrics], IntegerProgram: IntegerProgram(program=program)}


def activations_float(inputs):
    quantized = replace(inputs[QuantizedModel].quantized, activations={})
    return inputs | {QuantizedModel: QuantizedModel(quantized=quantized)}


@pytest.mark.parametrize(
    ("given", "cell"),
    [
        (lambda inputs: inputs, "yes"),
        (program_alone, "yes"),
        (activations_float, "no"),
        (lambda inputs: {Metrics: inputs[Metrics]}, "–"),
    ],
    ids=["quantized", "program_alone", "activations_float", "metrics_alone"],
)
def test_page_and_table_say_whether_integer_kernels_compute_the_network(inputs, tmp_path, given, cell):
    """The artifacts tell, not the configuration."""
    _, shown = run(Report(), given(inputs), tmp_path)
    (row,) = (line for line in shown.splitlines() if "integer kernels" in line)
    assert row.split("│")[4].strip() == cell
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert f"<tr><td>integer kernels</td><td>–</td><td>–</td><td>{cell}</td></tr>" in page


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ({Verdict: Verdict(demanded="all levels equal")}, "Demanded: all levels equal."),
        ({Verdict: Verdict(demanded="all", broken="off by 5")}, "<b>✗ Parity broken.</b> off by 5"),
        ({Verdict: Verdict()}, "This run has no parity contract."),
        ({}, "This run has no parity contract."),
    ],
)
def test_the_verdict_is_the_artifacts(inputs, tmp_path, verdict, text):
    run(Report(), inputs | verdict, tmp_path)
    assert text in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_second_report_replaces_the_first(inputs, tmp_path):
    run(Report(), inputs, tmp_path)
    run(Report(), inputs | {Metrics: Metrics(values={"integer/agreement": 1.0})}, tmp_path)
    assert "<td>90.00%</td>" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_record_shows_the_closing_table_and_names_the_data(inputs, tmp_path):
    told: dict[str, object] = {}

    class Told(Recorder):
        def describe(self, text):
            told["text"] = text

        def dataset(self, name, fingerprint, facts):
            told["data"] = (name, fingerprint, dict(facts))

    data = Noise(samples=4)
    stream = io.StringIO()
    console = Console(rich=RichConsole(file=stream, width=100))
    ctx = RunContext(run_dir=tmp_path, seed=0, device="cpu", tracker=Told(), store=None, console=console)
    Report(data=data).run(ctx, inputs)
    lines = str(told["text"]).splitlines()
    assert lines[1] == "| --- | ---: | ---: | ---: |"
    assert "| top-1 | 91.00% | – | 90.00% |" in lines and lines[-1] == "- a backend fell back"
    assert told["data"] == (data.name, data.fingerprint(), {"samples": None, "shape": list(data.shape)})
