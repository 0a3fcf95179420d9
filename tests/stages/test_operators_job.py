"""Whole runs of networks with gates and with attention, trained on digits, on each backend of integers."""

import json

import numpy as np
import pytest

from stages.artifacts import IntegerProgram
from stages.data.batches import batches
from stages.data.digits import Digits
from tests.stages.test_main_job import metrics, run, runs

NETWORKS = ("Gated", "Attention")


@pytest.fixture(scope="module", params=NETWORKS)
def finished(request, tmp_path_factory):
    """A folder with one run; the run itself checks that integers and simulation are equal."""
    folder = tmp_path_factory.mktemp(request.param)
    run(folder, *choices(request.param))
    (run_dir,) = runs(folder)
    return run_dir


def choices(network: str) -> tuple[str, ...]:
    return (
        f"model._target_=tests.stages.networks.{network}",
        "tracking=none",
        "quantizer=affine",
        "training.float.epochs=12",
        "training.float.optimizer=adamw",
        "training.float.learning_rate=0.01",
    )


def test_integers_keep_the_accuracy(finished):
    measured = metrics(finished)
    assert measured["float/top1"] > 0.8
    assert measured["integer/top1"] > measured["float/top1"] - 0.02
    assert (measured["integer/agreement"], measured["parity/max_off_by"]) == (1.0, 0.0)


def test_backends_give_the_same_integers_on_the_same_inputs(finished):
    """oneDNN runs convolutions and linear layers; all else is the reference's."""
    program = IntegerProgram.load(finished / "program")
    x, _ = next(batches(Digits().test(), 200, Digits()))
    reference = program.run(x.numpy(), backend="reference")
    onednn = program.run(x.numpy(), backend="onednn")
    step = program.program.values[program.program.output].scale
    assert (np.abs(reference - onednn) < 1.5 * step).mean() > 0.99
    assert (reference.argmax(1) == onednn.argmax(1)).mean() >= 0.99


def test_the_program_holds_them_as_operators_of_its_own(finished):
    ops = {op["op"] for op in json.loads((finished / "program" / "program.json").read_text())["ops"]}
    assert {"table", "multiply"} <= ops or {"softmax", "matmul", "layer_norm", "constant"} <= ops


def test_shortcuts_keep_8_bits_where_layers_read_fewer(finished):
    """`quantizer.residual_bits`, within the run's own contract between simulation and integers."""
    folder = finished.parents[3]
    network = next(name for name in NETWORKS if name in folder.name)
    widths = ("quantizer.activation.bits=6", "quantizer.residual_bits=8", "quantizer.first_last_bits=8")
    run(folder, *choices(network), *widths)
    run_dir = max(runs(folder))
    assert metrics(run_dir)["integer/top1"] > metrics(run_dir)["float/top1"] - 0.1
    program = IntegerProgram.load(run_dir / "program").program
    width = {name: value.quant_max - value.quant_min for name, value in program.values.items()}
    copies = [name for name in width if name.endswith(".operand")]
    assert all(width[name] == 63 and width[name.removesuffix(".operand")] == 255 for name in copies)
    assert {op.op for op in program.ops if op.output in copies} <= {"requantize"}
    assert bool(copies) == (network == "Gated")  # in the other one, layer norms read the sums
