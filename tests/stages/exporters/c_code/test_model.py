"""The C gives the reference's integers, in every arithmetic, compiled strictly and under sanitizers."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies

from stages.data.description import Description
from stages.exporters.c import PortableC
from stages.exporters.c_code.model import program_to_c
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.interpreter import Interpreter
from stages.integer.kernels.layer_norm import narrowing
from stages.integer.profiles.adapt import to_tflm
from stages.integer.program import Op, Program, Value
from tests.stages.exporters.c_code.compiled import SANITIZED, compile_c, run_c
from tests.stages.exporters.examples import X, Y, layer
from tests.stages.integer.strategies import ALL_OPS, programs, random_input

OURS = ("fixed_point", "fixed_point_single", "float")


def assert_same(program: Program, *flags: str, samples: int = 4) -> None:
    q = random_input(program, samples)
    with tempfile.TemporaryDirectory() as folder:
        found = run_c(compile_c(program, Path(folder), *flags), program, q)
    np.testing.assert_array_equal(found, Interpreter(program, threads=1).run(q))


@pytest.mark.parametrize("op", ALL_OPS)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=strategies.data())
def test_each_operator_gives_the_references_integers(op, data):
    assert_same(data.draw(programs(ops=(op, "reshape"), modes=OURS, ranks=(3,))), *SANITIZED)


@settings(max_examples=20, deadline=None)
@given(program=programs(modes=OURS, ranks=(1, 2, 3, 4)))
def test_any_program_gives_the_references_integers(program):
    assert_same(program)


TFLM_OPS = (
    "conv2d",
    "linear",
    "add",
    "subtract",
    "avg_pool2d",
    "mean",
    "softmax",
    "multiply",
    "reshape",
    "pad",
)


@settings(max_examples=20, deadline=None)
@given(program=programs(ops=TFLM_OPS, modes=("fixed_point",), ranks=(1, 3)))
def test_tflite_micros_arithmetic_too(program):
    form = to_tflm(program)
    assume(not PortableC().refusals(form))  # of a softmax that keeps but some entries
    assert_same(form)


def test_wide_levels_in_and_between(tmp_path):
    """Numbers of tokens, a table of them, a sum of 16 bits, its normalization."""
    program = stream()
    q = np.random.default_rng(3).integers(0, 300, (20, 6)).astype(np.int32)
    found = run_c(compile_c(program, tmp_path, *SANITIZED), program, q)
    np.testing.assert_array_equal(found, Interpreter(program, threads=1).run(q))


def stream() -> Program:
    values = {
        "t": Value(name="t", shape=(6,), scale=1.0, zero_point=0, quant_min=0, quant_max=299),
        "e": Value(name="e", shape=(6, 8), scale=0.5, zero_point=3, quant_min=0, quant_max=255),
        "s": Value(
            name="s", shape=(6, 8), scale=0.01, zero_point=-7, quant_min=-(2**15), quant_max=2**15 - 1
        ),
        "p": Value(
            name="p", shape=(8, 6), scale=0.01, zero_point=-7, quant_min=-(2**15), quant_max=2**15 - 1
        ),
        "y": Value(name="y", shape=(8, 6), scale=0.05, zero_point=10, quant_min=0, quant_max=255),
    }
    rng = np.random.default_rng(1)
    multiplier, shift = quantize_multiplier(np.array([25.0, 30.0]))
    ratios = {"multiplier": multiplier, "shift": shift, "ratio": np.array([25.0, 30.0], np.float32)}
    whole = {"act_min": -(2**15), "act_max": 2**15 - 1, "headroom": 0}
    norm = {"epsilon": 1000, "shift": 46, "narrow": narrowing(values["p"]), "act_min": 0, "act_max": 255}
    gamma = rng.integers(-(2**24), 2**24, 6).astype(np.int32)
    tensors = {"gamma": gamma, "beta": rng.integers(-(2**50), 2**50, 6)}
    table = rng.integers(0, 256, (300, 8)).astype(np.uint8)
    ops = (
        Op(op="embedding", inputs=("t",), output="e", tensors={"table": table}),
        Op(op="add", inputs=("e", "e"), output="s", attrs=whole, tensors=ratios),
        Op(op="permute", inputs=("s",), output="p", attrs={"axes": (1, 0)}),
        Op(op="layer_norm", inputs=("p",), output="y", attrs=norm, tensors=tensors),
    )
    return Program(values=values, ops=ops, input="t", output="y", requantize="fixed_point")


def test_a_network_may_leave_its_input_unread():
    """A sum of constants: ``input`` is a word of its own, and ``inputs`` another."""
    x = Value(name="x", shape=(1,), scale=0.5, zero_point=0, quant_min=-128, quant_max=127)
    multiplier, shift = quantize_multiplier(np.array([1.0, 1.0]))
    ratios = {"multiplier": multiplier, "shift": shift, "ratio": np.ones(2, np.float32)}
    bounds = {"act_min": -128, "act_max": 127, "headroom": 0}
    ops = (
        Op(op="constant", inputs=("x",), output="c", tensors={"levels": np.array([3, -4], np.int8)}),
        Op(op="add", inputs=("c", "c"), output="y", attrs=bounds, tensors=ratios),
    )
    values = {"x": x, **{name: replace(x, name=name, shape=(2,)) for name in "cy"}}
    assert_same(Program(values=values, ops=ops, input="x", output="y", requantize="fixed_point"))


def test_the_header_says_what_levels_and_names_mean(tmp_path):
    description = Description(
        shape=(2,), mean=(0.5,), std=(0.25,), classes=('a "b" \\ ??/', "*/ é"), image=None
    )
    compile_c(layer({"x": X, "y": Y}, residual=True), tmp_path, description=description)
    header = (tmp_path / "model.h").read_text()
    assert "#define MODEL_INPUT_ZERO_POINT -3\n" in header
    assert "#define MODEL_OUTPUT_TYPE uint8_t\n" in header
    assert "#define MODEL_MEAN {0.5f}\n" in header
    assert r'#define MODEL_CLASSES {"a \042b\042 \134 \077\077/", "*/ \303\251"}' in header


def test_dead_values_give_their_bytes_to_later_ones(tmp_path):
    """A chain of five values of 64 bytes needs room for two."""
    names = [f"v{i}" for i in range(8)]
    values = {
        name: Value(name=name, shape=(64,), scale=0.1, zero_point=0, quant_min=-128, quant_max=127)
        for name in names
    }
    ops = tuple(
        Op(op="take", inputs=(a,), output=b, attrs={"axis": 0, "indices": tuple(range(63, -1, -1))})
        for a, b in pairwise(names)
    )
    program = Program(values=values, ops=ops, input="v0", output="v7")
    assert program_to_c(program).arena_bytes == 128
    assert_same(program)


def test_refuses_by_name_what_has_no_form():
    op = Op(op="float_linear", inputs=("x",), output="head")
    program = Program(values={"x": X, "head": replace(Y, name="head")}, ops=(op,), input="x", output="head")
    (reason,) = PortableC().refusals(program)
    assert reason.startswith("no form in C for float_linear (head). Remedy: ")
