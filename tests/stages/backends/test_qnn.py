"""Qualcomm's simulator runs every operator that has a form, within a level, and all else is refused by name.

Examples are the same in every run, as those of the other foreign runtimes.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from stages.backends.qnn import Qnn
from stages.exporters.onnx_graph.qnn_rules import KNOWN, qnn_refusals
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program
from tests.stages.exporters.examples import X, Y, consistent, layer, rounds
from tests.stages.integer.strategies import programs, random_input
from tests.stages.integer.test_wide import streams


def check_levels(program: Program, samples: int, most: int) -> None:
    """Each operator on the very inputs that the simulator gave it."""
    executable = Qnn(batch_size=samples).compile(program)
    q = random_input(program, samples)
    trace = executable.trace(q)
    assert list(trace) == list(program.values)
    assert (trace[program.input] == q).all()
    assert (executable.run(q) == trace[program.output]).all()
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs))
        found = trace[op.output]
        assert found.dtype == expected.dtype
        difference = np.abs(found.astype(int) - expected).max(initial=0)
        assert difference <= (most if rounds(op) else 0), op.op


@settings(max_examples=40, deadline=None, derandomize=True)
@given(program=programs(modes=("float",)).map(consistent), samples=st.integers(1, 3))
def test_operators_are_within_two_levels_and_moves_are_equal(program, samples):
    if refused := qnn_refusals(program):
        with pytest.raises(PipelineError) as error:
            Qnn().compile(program)
        assert all(reason in str(error.value) for reason in refused)
        return
    check_levels(program, samples, most=2)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(program=streams())
def test_streams_of_16_bits_run_too(program):
    program = replace(program, requantize="float")
    if not qnn_refusals(program):
        q = random_input(program, 1)
        trace = Qnn().compile(program).trace(q)
        assert {name: levels.dtype for name, levels in trace.items()} == {
            name: value.dtype for name, value in program.values.items()
        }
        assert (trace[program.input] == q).all()


@pytest.mark.parametrize(
    ("levels", "bounds"),
    [
        ((0, 255, 0), (0, 255)),
        ((0, 254, 0), (0, 254)),  # the upper bound alone, of which HTP forgets a Clip
        ((-127, 127, 0), (-127, 127)),  # the lower one alone
        ((0, 255, 100), (100, 255)),
        ((-127, 127, 0), (0, 60)),
        ((0, 255, 128), (0, 131)),
        ((0, 15, 8), (0, 15)),
        ((0, 15, 8), (8, 8)),
    ],
)
def test_bounds_are_kept(levels, bounds):
    low, high, zero_point = levels
    y = replace(Y, quant_min=low, quant_max=high, zero_point=zero_point)
    program = layer({"x": X, "y": y}, residual=False)
    (op,) = program.ops
    op = replace(op, attrs=dict(zip(("act_min", "act_max"), bounds, strict=True)))
    tensors = {**op.tensors, "weight_zero_point": np.zeros(2, np.int32)}
    check_levels(replace(program, ops=(replace(op, tensors=tensors),)), samples=64, most=1)


def test_what_has_no_form_is_refused_with_its_name_and_a_remedy():
    zero_points = layer({"x": X, "y": Y}, residual=False)
    with pytest.raises(PipelineError, match=r"backend=qnn: y: .* zero points are 0\. Remedy: quantizer=symm"):
        Qnn().compile(zero_points)
    norm = replace(zero_points, ops=(replace(zero_points.ops[0], op="group_norm", tensors={}),))
    with pytest.raises(PipelineError, match=r"no form in QNN for group_norm \(y\)\. Remedy"):
        Qnn().compile(norm)
    assert "group_norm" not in KNOWN


def test_what_the_simulator_itself_refuses_is_named(monkeypatch):
    """A max pool with dilation, let through by the rules."""
    monkeypatch.setattr("stages.backends.qnn.qnn_refusals", lambda program: [])
    x, y = replace(X, shape=(1, 6, 6)), replace(X, name="y", shape=(1, 6, 6))
    z = replace(X, name="z", shape=(1, 2, 2))
    pool = {"kernel": (3, 3), "stride": (1, 1), "padding": (0, 0), "dilation": (2, 2), "ceil_mode": False}
    ops = (
        Op(op="permute", inputs=("x",), output="y", attrs={"axes": (0, 2, 1)}),
        Op(op="max_pool2d", inputs=("y",), output="z", attrs=pool),
    )
    program = Program(values={"x": x, "y": y, "z": z}, ops=ops, input="x", output="z", requantize="float")
    with pytest.raises(PipelineError, match=r"backend=qnn: HTP does not take z \(.*Remedy: another backend"):
        Qnn().compile(program).run(random_input(program, 1))


def test_a_missing_package_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime_qnn", None)
    with pytest.raises(PipelineError, match=r"needs the package 'onnxruntime_qnn'.*install '\.\[qnn\]'"):
        Qnn().compile(symmetric())


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("platform.libc_ver", lambda: ("glibc", "2.31"), "with glibc 2.31"),
        ("platform.libc_ver", lambda: ("", ""), "with another C library"),
        ("platform.machine", lambda: "aarch64", "on aarch64"),
        ("sys.platform", "darwin", "this is darwin"),
    ],
)
def test_another_machine_is_refused(name, value, told, monkeypatch):
    monkeypatch.setattr(name, value)
    with pytest.raises(PipelineError, match=rf"x86-64 with glibc 2\.35.*{told}.*Remedy: Ubuntu 22\.04"):
        Qnn().compile(symmetric())


def test_any_number_of_samples_goes_through_batches():
    program = symmetric()
    q = random_input(program, 7)
    expected = Qnn().compile(program).run(q)
    executable = Qnn(batch_size=3).compile(program)
    assert (executable.run(q) == expected).all()
    assert executable.run(q[:0]).shape == (0, 2)
    assert "its time says nothing about an NPU's" in executable.notes[0]


def test_settings_are_checked():
    with pytest.raises(ValueError, match="batch_size=0: must be at least 1"):
        Qnn(batch_size=0)


def symmetric() -> Program:
    """A layer and its residual."""
    program = layer({"x": X, "y": Y}, residual=True)
    (op,) = program.ops
    tensors = {**op.tensors, "weight_zero_point": np.zeros(2, np.int32)}
    return replace(program, ops=(replace(op, tensors=tensors),))
