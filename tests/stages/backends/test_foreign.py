"""The backends over other runtimes: the reference's levels within a rounding, and clear refusals.

Examples are the same in every run: what a new one finds is, more often than not, an error of the other
runtime, and must not fail a change that has nothing to do with it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.errors import PipelineError
from stages.backends.base import load_backend
from stages.backends.onnxruntime import OnnxRuntime
from stages.backends.openvino import OpenVino, grouped_residuals
from stages.backends.reference import Reference
from stages.graph.lower import lower
from stages.integer.interpreter import quantize_input
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Op, Program
from stages.quant.quantizers.symmetric import Symmetric
from tests.quantizing import fused, quantized
from tests.stages.exporters.examples import X, Y, consistent, layer, rounds, symmetric
from tests.stages.integer.strategies import programs, random_input

BACKENDS = [OnnxRuntime(threads=1, residual="exact"), OpenVino(threads=1)]
PACKAGES = {"onnxruntime": ["onnx", "onnxruntime"], "openvino": ["onnx", "openvino"]}


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(program=programs(modes=("float",)).map(consistent), samples=st.integers(1, 3))
def test_operators_are_within_one_level_and_moves_are_equal(backend, program, samples):
    if isinstance(backend, OpenVino) and grouped_residuals(program):
        with pytest.raises(PipelineError, match="grouped convolution and a residual"):
            backend.compile(program)
        return
    executable = backend.compile(program)
    q = random_input(program, samples)
    trace = executable.trace(q)
    assert list(trace) == list(program.values)
    assert (trace[program.input] == q).all()
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs))
        found = trace[op.output]
        assert found.dtype == expected.dtype
        assert np.abs(found.astype(int) - expected).max(initial=0) <= rounds(op), op.op


@settings(max_examples=15, deadline=None, derandomize=True)
@given(program=programs(modes=("float",)).map(consistent))
def test_onnxruntime_runs_the_kernels_that_it_traces(program):
    executable = OnnxRuntime(threads=1).compile(program)
    for samples in (1, 3):
        q = random_input(program, samples)
        y, traced = executable.run(q), executable.trace(q)[program.output]
        assert y.dtype == traced.dtype
        assert y.tolist() == traced.tolist()


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("samples", [1, 16, 64, 256])
def test_means_over_positions_are_right_for_many_samples(backend, samples):
    """As a ReduceMean, OpenVINO 2026 gets it wrong from 64 samples on."""
    x = replace(X, shape=(16, 24))
    mean = Op(
        op="mean",
        inputs=("x",),
        output="y",
        attrs={"axes": (0,), "keepdim": False, "act_min": 0, "act_max": 254},
        tensors={"ratio": np.zeros(1, np.float32)},
    )
    values = {"x": x, "y": replace(Y, shape=(24,), scale=0.25, zero_point=120)}
    program = consistent(Program(values=values, ops=(mean,), input="x", output="y", requantize="float"))
    q = random_input(program, samples)
    assert (
        np.abs(backend.compile(program).run(q).astype(int) - Reference().compile(program).run(q)).max() <= 1
    )


@pytest.mark.parametrize("optimization", ["disabled", "basic", "extended", "all"])
@pytest.mark.parametrize("form", ["qdq", "qoperator", "tensorrt"])
def test_onnxruntime_runs_every_form_at_every_optimization(form, optimization):
    program = layer({"x": X, "y": Y}, residual=True)
    if form == "tensorrt":
        program = symmetric(program)
    backend = OnnxRuntime(threads=1, form=form, optimization=optimization)
    executable = backend.compile(program)
    q = random_input(program, samples=200)
    expected = Reference().compile(program).run(q).astype(int)
    assert np.abs(executable.run(q).astype(int) - expected).max() <= backend.tolerance.off_by
    assert executable.trace(q)[program.output].dtype == program.values["y"].dtype
    assert backend.tolerance.off_by == (1 if form == "tensorrt" else 2)
    assert len(executable.notes) == (form != "tensorrt")


class Tokens(nn.Module):
    """Numbers of tokens to two scores."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.up, self.down = nn.Embedding(300, 16), nn.Linear(16, 32), nn.Linear(32, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.gelu(self.up(self.embedding(tokens))).mean(1))


@pytest.mark.parametrize("form", ["qdq", "qoperator", "tensorrt"])
def test_onnxruntime_reads_numbers_of_tokens_in_every_form(form, monkeypatch):
    torch.manual_seed(0)
    if form == "tensorrt":
        monkeypatch.setattr("tests.quantizing.Affine", partial(Symmetric, signed=True))
    x = torch.randint(0, 300, (16, 5)).float()
    graph = fused(Tokens().eval(), (5,), dtype=torch.int64)
    program = lower(quantized(graph, x), "float")
    assert program.values[program.input].counts
    q = quantize_input(program, x.numpy())
    trace = OnnxRuntime(threads=1, form=form).compile(program).trace(q)
    assert trace[program.input].tolist() == q.tolist()
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs)).astype(int)
        assert np.abs(trace[op.output] - expected).max() <= rounds(op), op.op


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
@pytest.mark.parametrize("residual", [False, True])
def test_running_gives_the_references_levels(backend, residual):
    program = layer({"x": X, "y": Y}, residual=residual)
    q = random_input(program, samples=200)
    y, expected = backend.compile(program).run(q), Reference().compile(program).run(q)
    assert y.dtype == expected.dtype
    assert np.abs(y.astype(int) - expected).max() <= 1
    assert (y == expected).mean() >= 0.9  # scales are powers of two here: ties are common


@pytest.mark.parametrize(
    ("name", "package"), [(name, package) for name, packages in PACKAGES.items() for package in packages]
)
def test_a_missing_package_is_refused_with_the_remedy(name, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"backend={name} needs the package '{package}'.*pip install '\.\[bench\]'"
    with pytest.raises(PipelineError, match=message):
        load_backend(name).compile(layer({"x": X, "y": Y}, residual=False))


@pytest.mark.parametrize("backend", [OnnxRuntime, OpenVino])
def test_threads_are_checked(backend):
    with pytest.raises(ValueError, match="threads=0: must be at least 1, or null"):
        backend(threads=0)


def test_onnxruntime_says_that_it_rounds_residuals_twice():
    program = layer({"x": X, "y": Y}, residual=True)
    assert "before adding its residual" in OnnxRuntime().compile(program).notes[0]
    assert OnnxRuntime(residual="exact").compile(program).notes == ()
    assert OnnxRuntime().compile(layer({"x": X, "y": Y}, residual=False)).notes == ()


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_levels_of_another_dtype_are_refused(backend):
    program = layer({"x": X, "y": Y}, residual=False)
    with pytest.raises(ValueError, match="input 'x': got uint8"):
        backend.compile(program).run(np.zeros((1, 2), np.uint8))
