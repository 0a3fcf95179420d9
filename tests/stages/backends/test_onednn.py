import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from stages.backends import onednn
from stages.backends.onednn import OneDNN
from stages.backends.reference import Reference
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.kernel import prepare_kernel
from stages.integer.program import Integers, Op, Program, Requantize, Value
from tests.stages.integer.strategies import MODES, programs, random_input

LAYERS = ("conv2d", "linear")


def differences(program: Program, trace: dict[str, Integers]) -> dict[str, Integers]:
    """By operator: how far its levels are from the reference kernel's on the very same inputs."""
    result = {}
    for op in program.ops:
        expected = prepare_kernel(op, program)(*(trace[name] for name in op.inputs))
        result[op.output] = np.abs(trace[op.output].astype(int) - expected)
    return result


@settings(max_examples=150, deadline=None)
@given(program=programs(modes=MODES), samples=st.integers(1, 3))
def test_layers_are_within_one_level_and_all_else_is_equal(program: Program, samples: int) -> None:
    trace = OneDNN(threads=1).compile(program).trace(random_input(program, samples))
    found = differences(program, trace)
    off_by_one = any(difference.any() for difference in found.values())
    event(f"{program.requantize}: {'some levels off by one' if off_by_one else 'all levels equal'}")
    for op, (name, difference) in zip(program.ops, found.items(), strict=True):
        assert difference.max(initial=0) <= (op.op in LAYERS), name
        value = program.values[name]
        assert trace[name].dtype == value.dtype
        assert trace[name].shape == (samples, *value.shape)
        assert trace[name].min() >= value.quant_min
        assert trace[name].max() <= value.quant_max


@settings(max_examples=150, deadline=None)
@given(program=programs(modes=MODES), batch_size=st.integers(1, 6), threads=st.integers(1, 2))
def test_run_gives_what_trace_shows_and_leaves_the_input(
    program: Program, batch_size: int, threads: int
) -> None:
    """Running overwrites residuals that nothing reads any more; tracing never does."""
    q = random_input(program, samples=6)
    q.flags.writeable = False
    executable = OneDNN(threads=threads, batch_size=batch_size).compile(program)
    assert (executable.run(q) == executable.trace(q)[program.output]).all()


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    program = convolutions("float", residual=True)
    executable = OneDNN().compile(program)
    q = random_input(program, samples=5)
    executable.run(q)
    executable.trace(q)
    executable.profile(q)
    assert torch.get_num_threads() == before


def convolutions(requantize: Requantize, residual: bool, source: str = "a") -> Program:
    """x → a → b → c, each a 3×3 convolution of 16 channels; c adds the value `source`; d joins them all."""
    levels = {"scale": 0.1, "zero_point": 4, "quant_min": 0, "quant_max": 255}
    values = {name: Value(name=name, shape=(16, 24, 24), **levels) for name in "xabc"}
    values["d"] = Value(name="d", shape=(16, 24, 24), **levels)
    rng = np.random.default_rng(0)
    ops = []
    for name, previous in zip("abc", "xab", strict=True):
        headroom = 12 if name == "c" and residual else 0
        ratio = rng.uniform(0.0005, 0.002, 16)
        tensors = {
            "weight": rng.integers(-127, 128, (16, 16, 3, 3)).astype(np.int8),
            "weight_scale": np.ones(1, np.float32),
            "weight_zero_point": np.zeros(1, np.int32),
            "bias": rng.integers(20000, 60000, 16).astype(np.int32),
            **_ratio(ratio, headroom, ""),
        }
        attrs = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
        attrs |= {"act_min": 0, "act_max": 255}
        inputs = (previous,)
        if headroom:
            inputs, attrs["headroom"] = (previous, source), headroom
            tensors |= _ratio(np.array([0.7]), headroom, "residual_")
        ops.append(Op(op="conv2d", inputs=inputs, output=name, attrs=attrs, tensors=tensors))
    attrs = {"act_min": 0, "act_max": 255, "headroom": 12}
    terms = _ratio(np.array([0.5, 0.5]), 12, "")
    ops.append(Op(op="add", inputs=("c", source), output="d", attrs=attrs, tensors=terms))
    return Program(values=values, ops=tuple(ops), input="x", output="d", requantize=requantize)


def _ratio(real: np.ndarray, headroom: int, prefix: str) -> dict[str, np.ndarray]:
    multiplier, shift = quantize_multiplier(real * 2.0**headroom)
    tensors = {"multiplier": multiplier, "shift": shift, "ratio": real.astype(np.float32)}
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("source", ["x", "a", "b"])
def test_a_residual_that_is_read_again_is_not_overwritten(source: str) -> None:
    """`d` reads it after `c` has added it; `b` is also the input of `c` itself."""
    program = convolutions("float", residual=True, source=source)
    q = random_input(program, samples=3)
    executable = OneDNN().compile(program)
    assert (executable.run(q) == executable.trace(q)["d"]).all()
    assert (executable.run(q) == executable.run(q)).all()


@pytest.mark.parametrize(("source", "output"), [("b", "c"), ("a", "a")])
def test_a_residual_that_is_input_or_output_is_not_overwritten(source: str, output: str) -> None:
    """``c = conv(b) + b``; and a program whose result is a residual of its last operator."""
    program = convolutions("float", residual=True, source=source)
    program = replace(program, ops=program.ops[:3], output=output)
    q = random_input(program, samples=3)
    executable = OneDNN().compile(program)
    assert (executable.run(q) == executable.trace(q)[output]).all()


@pytest.mark.parametrize("residual", ["v", "a"])
def test_a_residual_that_shares_memory_is_not_overwritten(residual: str) -> None:
    """``v`` is a view of ``a``; `c` adds the one, `d` reads the other."""
    program = convolutions("float", residual=True)
    a, b, c, d = program.ops
    whole = {"starts": (0, 0, 0), "ends": (16, 24, 24), "steps": (1, 1, 1)}
    view = Op(op="slice", inputs=("a",), output="v", attrs=whole)
    c = replace(c, inputs=("b", residual))
    d = replace(d, inputs=("c", "a" if residual == "v" else "v"))
    values = {**program.values, "v": replace(program.values["a"], name="v")}
    program = replace(program, values=values, ops=(a, view, b, c, d))
    q = random_input(program, samples=3)
    executable = OneDNN().compile(program)
    assert (executable.run(q) == executable.trace(q)["d"]).all()


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding"),
    [
        ((8, 8, 3), (4, 2), (1, 2), (0, 0)),  # wrong in oneDNN 3.12
        ((8, 2, 1), (2, 1), (1, 2), (1, 1)),  # windows within the padding: crashes there
    ],
)
@pytest.mark.parametrize("groups", [1, 8])
def test_geometries_that_onednn_gets_wrong(
    shape: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    groups: int,
) -> None:
    rng = np.random.default_rng(0)
    sizes = zip(shape[1:], kernel, stride, padding, strict=True)
    image = tuple((size + 2 * p - k) // s + 1 for size, k, s, p in sizes)
    levels = {"scale": 0.1, "zero_point": 120, "quant_min": 0, "quant_max": 255}
    values = {"x": Value(name="x", shape=shape, **levels), "y": Value(name="y", shape=(32, *image), **levels)}
    op = convolutions("float", residual=False).ops[0]
    tensors = {
        **op.tensors,
        "weight": rng.integers(-127, 128, (32, 8 // groups, *kernel)).astype(np.int8),
        "bias": np.zeros(32, np.int32),
        **_ratio(np.array([0.002]), 0, ""),
    }
    attrs = {**op.attrs, "stride": stride, "padding": padding, "groups": groups}
    op = replace(op, inputs=("x",), output="y", attrs=attrs, tensors=tensors)
    program = Program(values=values, ops=(op,), input="x", output="y", requantize="float")
    trace = OneDNN().compile(program).trace(random_input(program, samples=2))
    assert differences(program, trace)["y"].max() <= 1


@pytest.mark.parametrize(
    ("mode", "residual"), [("float", False), ("float", True), ("fixed_point_single", False)]
)
def test_what_is_rounded_once_is_nearly_always_equal(mode: Requantize, residual: bool) -> None:
    """Values of some hundred levels have float32 errors of about 2^-16 levels, and as often cross a tie."""
    program = convolutions(mode, residual)
    shares = _unequal_shares(replace(program, ops=program.ops[:3], output="c"))
    assert max(shares.values()) <= 2.0**-14


def test_single_rounding_of_a_sum_differs_within_its_headroom() -> None:
    """Two terms, each rounded to 2^-headroom levels: what lies as near to a tie may cross it."""
    program = convolutions("fixed_point_single", residual=True)
    shares = _unequal_shares(program)
    assert shares["c"] <= 2 * 2.0 ** -program.ops[2].attrs["headroom"] + 2.0**-14


@pytest.mark.parametrize("residual", [False, True])
def test_fixed_point_programs_differ_as_often_as_their_first_rounding_makes_a_tie(residual: bool) -> None:
    """The first of two rounds to 2^-n levels, n = −shift or the headroom: it lifts 2^-(n+1) of all values
    to a tie, which then rounds away from zero; with a residual there are two such terms."""
    program = convolutions("fixed_point", residual)
    shares = _unequal_shares(program)
    for op in program.ops[:3]:
        bits = op.attrs.get("headroom") or -float(op.tensors["shift"].max())
        assert shares[op.output] <= len(op.inputs) * 2.0 ** -(bits + 1) + 2.0**-14
    assert shares["a"] > 0


def _unequal_shares(program: Program) -> dict[str, float]:
    trace = OneDNN().compile(program).trace(random_input(program, samples=24))
    assert len(np.unique(trace["c"])) > 100  # not a constant image
    return {name: float((difference > 0).mean()) for name, difference in differences(program, trace).items()}


def test_another_input_is_refused() -> None:
    executable = OneDNN().compile(convolutions("float", residual=False))
    with pytest.raises(ValueError, match=r"input 'x': got int8 .*, must be uint8 \(N, 16, 24, 24\)"):
        executable.run(np.zeros((1, 16, 24, 24), np.int8))


def test_missing_kernels_fall_back_to_the_reference_and_say_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onednn, "find_layers", lambda: "its 8-bit products saturate on this CPU")
    program = convolutions("float", residual=True)
    q = random_input(program, samples=2)
    with caplog.at_level(logging.WARNING):
        executable = OneDNN().compile(program)
    note = "backend onednn: its 8-bit products saturate on this CPU; the reference backend runs instead"
    assert executable.name == "reference"
    assert executable.notes == (note,)
    assert note in caplog.text
    assert (executable.run(q) == Reference().compile(program).run(q)).all()


def test_without_fallback_missing_kernels_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "find_layers", lambda: "its operators are missing")
    with pytest.raises(PipelineError, match=r"operators are missing\. Remedy: backend=reference or "):
        OneDNN(fallback=False).compile(convolutions("float", residual=False))


def test_a_cpu_without_vnni_is_noticed_and_still_exact() -> None:
    """AVX2 saturates sums of two products in 16 bits; weights are then split into parts that fit."""
    repository = Path(__file__).parents[3]
    script = """
import numpy as np
from tests.stages.backends.test_onednn import OneDNN, convolutions, differences, random_input
for residual in (False, True):
    program = convolutions("float", residual)
    executable = OneDNN().compile(program)
    trace = executable.trace(random_input(program, samples=2))
    print(max(d.max() for d in differences(program, trace).values()), *executable.notes)
"""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=repository, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    assert [line[0] in "01" for line in lines] == [True, True], done.stderr
    assert "no VNNI" in lines[0] or "reference backend runs instead" in lines[0]


@pytest.mark.parametrize(("field", "value"), [("threads", 0), ("batch_size", 0)])
def test_fields_are_checked(field: str, value: int) -> None:
    for backend in (OneDNN, Reference):
        with pytest.raises(ValueError, match=rf"{field}={value}: must be at least 1"):
            backend(**{field: value})
