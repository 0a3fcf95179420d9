"""The backends over TFLite files: tflite-micro and LiteRT."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from pipeline.errors import PipelineError
from stages.backends.base import load_backend, tolerance_of
from stages.backends.foreign.installed import runtime_export, runtime_version
from stages.backends.foreign.tflite import rescaled
from stages.backends.litert import LiteRt
from stages.backends.reference import Reference
from stages.backends.tflm import Tflm
from stages.exporters.tflite_file.model import problems
from stages.graph.lower import lower
from stages.integer.kernel import prepare_kernel
from stages.integer.profiles.adapt import to_tflm
from stages.integer.program import Op
from tests.stages.exporters.examples import consistent
from tests.stages.exporters.tflite_file.forms import OPS
from tests.stages.exporters.tflite_file.networks import convolutional, value
from tests.stages.integer.strategies import programs, random_input
from tests.stages.reporting.conftest import make_run

PROGRAM = convolutional("tflm")
LITERT = [LiteRt(threads=1, kernels=kernels) for kernels in ("reference", "optimized", "xnnpack")]


def test_tflite_micro_gives_the_references_integers():
    q = random_input(PROGRAM, 5)
    executable, reference = Tflm().compile(PROGRAM), Reference().compile(PROGRAM)
    assert (executable.name, executable.notes) == ("tflm", ())
    y = executable.run(q)
    assert y.dtype == np.int8
    assert y.tolist() == reference.run(q).tolist()
    traced, expected = executable.trace(q), reference.trace(q)
    assert list(traced) == list(PROGRAM.values)
    for name, levels in expected.items():
        assert traced[name].dtype == levels.dtype
        assert traced[name].tolist() == levels.tolist(), name


@pytest.mark.parametrize("backend", LITERT, ids=lambda backend: backend.kernels)
def test_litert_is_a_level_off_at_most_and_runs_what_it_traces(backend):
    q = random_input(PROGRAM, 5)
    executable = replace(backend, batch_size=2).compile(PROGRAM)
    traced = executable.trace(q)
    assert executable.run(q).tolist() == traced["y"].tolist()
    for name, levels in Reference().compile(PROGRAM).trace(q).items():
        assert np.abs(traced[name].astype(int) - levels).max() <= 2, name


@pytest.mark.parametrize("backend", [Tflm(), LITERT[0]], ids=lambda backend: backend.name)
def test_no_samples_give_no_results(backend):
    executable = backend.compile(PROGRAM)
    q = random_input(PROGRAM, 0)
    assert executable.run(q).shape == (0, 10)
    assert executable.trace(q)["a"].shape == (0, 8, 8, 8)


def test_tflite_micro_promises_its_profile_and_litert_none():
    assert tolerance_of(Tflm(), PROGRAM).exact
    declared = tolerance_of(LITERT[0], PROGRAM)
    assert (declared.off_by, declared.min_agreement) == (2, 0.9)
    assert declared.reason == "backend litert rounds tflm in its own way"
    assert tolerance_of(Tflm(), replace(PROGRAM, requantize="float")).off_by == 2


@pytest.mark.parametrize("backend", [Tflm(), LITERT[0]], ids=lambda backend: backend.name)
def test_what_has_no_form_is_refused_by_name(backend):
    x, y = value("x", (3, 4, 4)), value("y", (3, 1, 1))
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (2, 2), "ceil_mode": False}
    op = Op(op="max_pool2d", inputs=("x",), output="y", attrs=pool)
    program = replace(PROGRAM, values={"x": x, "y": y}, ops=(op,))
    with pytest.raises(
        PipelineError, match=rf"backend={backend.name}: 'y' \(max_pool2d\): dilation=.*Remedy"
    ):
        backend.compile(program)


@pytest.mark.parametrize(
    ("name", "package"),
    [("tflm", "tflite_micro"), ("tflm", "ai_edge_litert"), ("litert", "ai_edge_litert")],
)
def test_a_missing_package_is_refused_with_the_remedy(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"backend={name} needs the package '{package}'.*pip install '\.\[bench\]'"
    with pytest.raises(PipelineError, match=message):
        load_backend(name).compile(PROGRAM)


@pytest.mark.parametrize("backend", [Tflm(), LiteRt()], ids=lambda backend: backend.name)
def test_the_runtime_says_its_version_and_its_file(backend):
    assert runtime_version(backend)
    assert runtime_export(backend) == "tflite"


def test_settings_are_checked():
    with pytest.raises(ValueError, match="threads=0: must be at least 1"):
        LiteRt(threads=0)
    with pytest.raises(ValueError, match="batch_size=0: must be at least 1"):
        LiteRt(batch_size=0)


def test_levels_of_another_value_are_the_nearest_ones():
    have, want = value("a", (4,), 0.5, 10), replace(value("a", (4,), 1.0, 3), quant_min=0, quant_max=15)
    levels = np.array([[-128, 8, 13, 127]], np.int8)  # −69, −1, 1.5, 58.5
    assert rescaled(levels, have, want).tolist() == [[0, 2, 5, 15]]
    assert rescaled(levels, have, want).dtype == np.uint8
    assert rescaled(levels, have, have) is levels


@settings(max_examples=60, deadline=None, derandomize=True)
@given(program=programs(ops=OPS, modes=("float",)).map(consistent))
def test_any_program_of_ours_in_tflites_form_is_computed_by_tflite_micro_to_the_bit(program):
    form = to_tflm(program)
    if problems(form):
        return
    q = random_input(form, 2)
    trace = Tflm().compile(form).trace(q)
    for op in form.ops:
        expected = prepare_kernel(op, form)(*(trace[name] for name in op.inputs))
        assert trace[op.output].tolist() == expected.tolist(), op.op


@pytest.mark.parametrize("backend", [Tflm(), LITERT[0]], ids=lambda backend: backend.name)
def test_a_program_in_another_arithmetic_gives_levels_of_its_own_values(backend):
    """Levels stay in the program's scales and types, and its reals near those that it gives itself."""
    program = lower(make_run(["conv"]).model.quantized, "float")
    q = random_input(program, 16)
    executable, expected = backend.compile(program), Reference().compile(program).trace(q)
    assert "convert.arithmetic=tflm" in executable.notes[0]
    traced = executable.trace(q)
    assert traced.keys() == expected.keys()
    assert executable.run(q).tolist() == traced[program.output].tolist()
    for name, levels in expected.items():
        assert traced[name].dtype == levels.dtype
        assert np.abs(traced[name].astype(int) - levels).max() <= 4, name
