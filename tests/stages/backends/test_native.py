import logging
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from stages.backends import native
from stages.backends.base import instruction_set_of
from stages.backends.native import Native
from stages.backends.native_kernels import library
from stages.backends.reference import Reference
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.interpreter import dequantize_output, quantize_input
from stages.integer.program import Op, Program, Value
from tests.stages.integer.strategies import MODES, ProgramBuilder, programs, random_input

ROOT = Path(__file__).parents[3]


@settings(max_examples=300, deadline=None)
@given(program=programs(modes=MODES, ranks=(2, 3, 4)), samples=st.integers(1, 3), threads=st.integers(1, 3))
def test_every_value_is_the_references(program: Program, samples: int, threads: int) -> None:
    q = random_input(program, samples)
    expected = Reference(threads=1).compile(program).trace(q)
    executable = Native(threads=threads, batch_size=2, fallback=False).compile(program)
    found = executable.trace(q)
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert (found[name] == value).all(), name
    assert (executable.run(q) == expected[program.output]).all()


@st.composite
def layers(draw: st.DrawFn) -> Program:
    """One convolution as networks have them: many channels, wide rows, large kernels, any zero points."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    channels = draw(st.sampled_from([1, 3, 4, 16, 18, 24, 32, 48, 64, 96, 144]))
    groups = draw(st.sampled_from([1, 1, channels, 2 if channels % 2 == 0 else 1]))
    depthwise = groups == channels > 1
    out = channels if depthwise else groups * draw(st.sampled_from([1, 5, 16, 20, 32, 48, 80, 112]))
    kernel = draw(st.sampled_from([(1, 1), (3, 3), (3, 1), (5, 5), (2, 7), (9, 2)]))
    dilation = draw(st.sampled_from([(1, 1), (2, 3)]))
    padding = tuple(draw(st.integers(0, size)) for size in kernel)
    stride = draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (3, 5)]))
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [max(r - 2 * p, 1) + draw(st.integers(0, 34)) for r, p in zip(reach, padding, strict=True)]
    shape = [(n + 2 * p - r) // s + 1 for n, p, r, s in zip(size, padding, reach, stride, strict=True)]
    fan_in = channels // groups * kernel[0] * kernel[1]
    unsigned = draw(st.booleans())
    zero_points = draw(st.sampled_from(["none", "one", "each"]))
    count = out if zero_points == "each" else 1
    spread = 0 if zero_points == "none" else 256
    zero_point = rng.integers(0, spread + 1, count) - (0 if unsigned else spread // 2)
    ratio = rng.uniform(0.5, 2.0, draw(st.sampled_from([1, out]))) / (60.0 * np.sqrt(fan_in))
    residual = draw(st.booleans())
    headroom = 4 if residual else 0
    multiplier, shift = quantize_multiplier(ratio * 2.0**headroom)
    levels = draw(st.sampled_from([4, 128, 256]))
    weight = rng.integers(0, levels, (out, channels // groups, *kernel)) - (0 if unsigned else 128)
    tensors = {
        "weight": weight.astype(np.uint8 if unsigned else np.int8),
        "weight_scale": np.ones(count, np.float32),
        "weight_zero_point": np.clip(zero_point, weight.min(), weight.max()).astype(np.int32),
        "bias": rng.integers(-3000, 3000, out).astype(np.int32),
        "multiplier": multiplier,
        "shift": shift,
        "ratio": ratio.astype(np.float32),
    }
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    attrs |= {"act_min": draw(st.sampled_from([-100, 3])), "act_max": draw(st.sampled_from([127, 99]))}
    x = Value(name="x", shape=(channels, *size), scale=1.0, zero_point=7, quant_min=0, quant_max=255)
    y = Value(name="y", shape=(out, *shape), scale=1.0, zero_point=3, quant_min=-128, quant_max=127)
    values, ops, inputs = {"x": x, "y": y}, [], ("x",)
    if residual:
        values["r"] = replace(y, name="r")
        ops.append(Op(op="conv2d", inputs=("x",), output="r", attrs=attrs, tensors=tensors))
        multiplier, shift = quantize_multiplier(np.array([0.75 * 2.0**headroom]))
        own = {"multiplier": multiplier, "shift": shift, "ratio": np.array([0.75], np.float32)}
        tensors = tensors | {f"residual_{name}": array for name, array in own.items()}
        attrs, inputs = attrs | {"headroom": headroom}, ("x", "r")
    ops.append(Op(op="conv2d", inputs=inputs, output="y", attrs=attrs, tensors=tensors))
    mode = draw(st.sampled_from(MODES))
    return Program(values=values, ops=tuple(ops), input="x", output="y", requantize=mode)


@settings(max_examples=400, deadline=None)
@given(program=layers(), threads=st.integers(1, 2))
def test_layers_of_real_sizes_are_the_references(program: Program, threads: int) -> None:
    q = random_input(program, 1)
    q[0, :, : q.shape[2] // 2] = 255  # saturates what adds up in fewer than 32 bits
    expected = Reference(threads=1).compile(program).run(q)
    assert (Native(threads=threads, fallback=False).compile(program).run(q) == expected).all()


OVER_TOKENS = (
    *("linear", "add", "multiply", "table", "requantize", "concat", "slice", "pad", "mean"),
    *("softmax", "layer_norm", "matmul", "permute", "reshape"),
)


@settings(max_examples=300, deadline=None)
@given(program=programs(modes=MODES, ops=OVER_TOKENS, ranks=(2, 2, 3, 4)), threads=st.integers(1, 3))
def test_values_over_tokens_are_the_references(program: Program, threads: int) -> None:
    q = random_input(program, 2)
    expected = Reference(threads=1).compile(program).trace(q)
    executable = Native(threads=threads, fallback=False).compile(program)
    found = executable.trace(q)
    for name, value in expected.items():
        assert (found[name] == value).all(), name
    assert (executable.run(q) == expected[program.output]).all()


@st.composite
def encoders(draw: st.DrawFn) -> Program:
    """A feed-forward block over tokens of any rank: linear, table, linear with the residual."""
    leading = draw(st.sampled_from([(1,), (7,), (50,), (3, 5), (2, 3, 4)]))
    channels, hidden = draw(st.sampled_from([(3, 5), (16, 64), (40, 100), (192, 80)]))
    builder = ProgramBuilder(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    x = builder.value((*leading, channels))
    wide = builder.value((*leading, hidden))
    builder.layer("linear", x, wide, (hidden, channels), {}, depth=1)
    looked_up = builder.table(wide)
    y = builder.layer("linear", looked_up, builder.value(x.shape), (channels, hidden), {})
    ops, mode = tuple(builder.ops), draw(st.sampled_from(MODES))
    return Program(values=builder.values, ops=ops, input=x.name, output=y.name, requantize=mode)


@st.composite
def normalizations(draw: st.DrawFn) -> Program:
    """A softmax or a layer normalization over as many channels as networks have."""
    shape = (draw(st.sampled_from([1, 5])), draw(st.sampled_from([1, 16, 50, 197, 384, 768, 4096])))
    builder = ProgramBuilder(draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))
    x = builder.value(shape)
    y = getattr(builder, draw(st.sampled_from(["softmax", "layer_norm"])))(x)
    return Program(
        values=builder.values, ops=tuple(builder.ops), input=x.name, output=y.name, requantize="float"
    )


@settings(max_examples=200, deadline=None)
@given(program=normalizations())
def test_normalizations_of_real_sizes_are_the_references(program: Program) -> None:
    """Rows of one level and rows of the two extremes among them."""
    q = random_input(program, 4)
    x = program.values[program.input]
    q[0] = x.quant_max
    q[1] = np.random.default_rng(0).choice([x.quant_min, x.quant_max], q[1].shape)
    expected = Reference(threads=1).compile(program).run(q)
    assert (Native(threads=1, fallback=False).compile(program).run(q) == expected).all()


@st.composite
def moves(draw: st.DrawFn) -> Program:
    """Permutations, slices, and reshapes that split or join dimensions, of images and tokens."""
    builder = ProgramBuilder(draw, np.random.default_rng(0))
    x = y = builder.value(
        tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4, 12, 16]), min_size=2, max_size=4)))
    )
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["permute", "slice", "split", "join"]))
        axis = draw(st.integers(0, len(y.shape) - 1))
        before, size, after = y.shape[:axis], y.shape[axis], y.shape[axis + 1 :]
        if kind in ("permute", "slice"):
            y = getattr(builder, kind)(y)
            continue
        factor = draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
        shape = (*before, factor, size // factor, *after)
        if kind == "join" and after:
            shape = (*before, size * after[0], *after[1:])
        y = builder.append("reshape", [y], builder.value(shape, y), {"shape": shape})
    ops = tuple(builder.ops)
    return Program(values=builder.values, ops=ops, input=x.name, output=y.name, requantize="float")


@settings(max_examples=400, deadline=None)
@given(program=moves(), threads=st.integers(1, 3), samples=st.integers(1, 4))
def test_moves_are_the_references(program: Program, threads: int, samples: int) -> None:
    q = random_input(program, samples)
    expected = Reference(threads=1).compile(program).trace(q)
    executable = Native(threads=threads, fallback=False).compile(program)
    assert not any("permute" in note for note in executable.notes)
    found = executable.trace(q)
    for name, value in expected.items():
        assert (found[name] == value).all(), name
    assert (executable.run(q) == expected[program.output]).all()


@st.composite
def products(draw: st.DrawFn) -> Program:
    """Two linear layers over tokens, (…, I, K) and (…, K, J), and the product of what they give."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    builder = ProgramBuilder(draw, rng)
    leading = draw(st.sampled_from([(), (1,), (3,), (2, 3)]))
    inner = draw(st.sampled_from([1, 17, 50, 64]))
    rows, columns = draw(st.sampled_from([inner, 1])), draw(st.sampled_from([1, 5, 16, 64, 100, 197]))
    x = builder.value((*leading, inner, 6))
    a = builder.layer("linear", x, builder.value((*leading, inner, inner)), (inner, 6), {}, depth=1)
    b = builder.layer("linear", x, builder.value((*leading, inner, columns)), (columns, 6), {}, depth=1)
    if rows == 1 and inner > 1:
        ends = {"ends": (*leading, 1, inner), "steps": (1,) * len(a.shape), "starts": (0,) * len(a.shape)}
        a = builder.append("slice", [a], builder.value((*leading, 1, inner), a), ends)
    y = builder.value((*leading, rows, columns))
    ratio = builder.ratio(rng.uniform(0.2, 2.0) / (40 * np.sqrt(inner)))
    builder.append("matmul", [a, b], y, builder.bounds(y), **ratio)
    ops, mode = tuple(builder.ops), draw(st.sampled_from(MODES))
    return Program(values=builder.values, ops=ops, input=x.name, output=y.name, requantize=mode)


@settings(max_examples=200, deadline=None)
@given(program=products(), threads=st.integers(1, 3))
def test_products_of_real_sizes_are_the_references(program: Program, threads: int) -> None:
    q = random_input(program, 2)
    executable = Native(threads=threads, fallback=False).compile(program)
    assert not any("matmul" in note for note in executable.notes)
    assert (executable.run(q) == Reference(threads=1).compile(program).run(q)).all()


@settings(max_examples=150, deadline=None)
@given(program=encoders(), threads=st.integers(1, 2))
def test_layers_over_tokens_are_one_plan(program: Program, threads: int) -> None:
    q = random_input(program, 2)
    executable = Native(threads=threads, fallback=False).compile(program)
    assert executable.notes == ()
    assert (executable.run(q) == Reference(threads=1).compile(program).run(q)).all()


@pytest.mark.parametrize(
    "shape", [(1, 7, 37), (3, 16, 16), (16, 5, 13), (70, 3, 3), (64,), (9, 16), (5, 70), (2, 3, 4, 20)]
)
def test_tables_are_looked_up_for_every_level(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    levels = {"shape": shape, "scale": 1.0, "zero_point": 0, "quant_min": 0, "quant_max": 255}
    table = rng.permutation(256).astype(np.uint8)
    op = Op(op="table", inputs=("x",), output="y", attrs={}, tensors={"table": table})
    values = {name: Value(name=name, **levels) for name in ("x", "y")}
    program = Program(values=values, ops=(op,), input="x", output="y", requantize="float")
    q = np.resize(rng.permutation(256), (4, *shape)).astype(np.uint8)
    assert len(np.unique(q)) == 256
    assert (Native(threads=2, fallback=False).compile(program).run(q) == table[q]).all()


def one_layer(weight: int = 1, channels: int = 8, requantize: str = "float") -> Program:
    levels = {"scale": 1.0, "zero_point": 0, "quant_min": 0, "quant_max": 255}
    multiplier, shift = quantize_multiplier(np.array([0.1]))
    tensors = {
        "weight": np.full((4, channels), weight, np.int8),
        "weight_scale": np.ones(1, np.float32),
        "weight_zero_point": np.zeros(1, np.int32),
        "bias": np.zeros(4, np.int32),
        "multiplier": multiplier,
        "shift": shift,
        "ratio": np.array([0.1], np.float32),
    }
    op = Op(op="linear", inputs=("x",), output="y", attrs={"act_min": 0, "act_max": 255}, tensors=tensors)
    values = {"x": Value(name="x", shape=(channels,), **levels), "y": Value(name="y", shape=(4,), **levels)}
    return Program(values=values, ops=(op,), input="x", output="y", requantize=requantize)


def test_calls_from_several_threads_do_not_mix() -> None:
    program = one_layer()
    executable = Native(threads=2).compile(program)
    inputs = [random_input(program, 500) // (i + 1) for i in range(4)]
    expected = [Reference().compile(program).run(q) for q in inputs]
    wrong = []

    def call(number: int) -> None:
        for _ in range(50):
            if not (executable.run(inputs[number]) == expected[number]).all():
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_child_of_a_fork_works_alone() -> None:
    program = one_layer()
    executable = Native(threads=2).compile(program)
    q = random_input(program, 5)
    expected = executable.run(q)
    child = os.fork()
    if child == 0:
        os._exit(0 if (executable.run(q) == expected).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_fork_while_another_thread_is_in_the_engine_does_not_hang() -> None:
    program = one_layer()
    executable, q = Native(threads=2).compile(program), random_input(program, 4)
    expected = executable.run(q)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            executable.run(np.repeat(q, 500, axis=0))

    busy = threading.Thread(target=work)
    busy.start()
    try:
        for _ in range(5):
            with executable._lock:  # for certain held by a thread that the child has not
                child = os.fork()
                if child == 0:
                    os._exit(0 if np.array_equal(executable.run(q), expected) else 1)
            deadline = time.monotonic() + 20
            while (done := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
                time.sleep(0.01)
            if done == (0, 0):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            assert done == (child, 0)
    finally:
        stop.set()
        busy.join()


def test_no_samples_give_an_empty_result() -> None:
    program = one_layer()
    assert Native().compile(program).run(np.zeros((0, 8), np.uint8)).shape == (0, 4)


def test_times_are_told_by_operator() -> None:
    program = one_layer()
    times = Native().compile(program).profile(random_input(program, 50))
    assert times.keys() == {"y"}
    assert times["y"] > 0.0


def test_another_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"input 'x': got int8 .*, must be uint8 \(N, 8\)"):
        Native().compile(one_layer()).run(np.zeros((1, 8), np.int8))


def test_a_sum_that_can_leave_int32_is_refused() -> None:
    program = one_layer(weight=127, channels=70000)
    with pytest.raises(ValueError, match=r"'y' \(linear\): the accumulator .* beyond int32"):
        Native().compile(program)


def test_operators_without_steps_run_by_the_reference_and_are_named() -> None:
    program = one_layer()
    rescaling = {
        "multiplier": np.full(3, 2**30, np.int32),
        "shift": np.zeros(3, np.int32),
        "ratio": np.full(3, 0.5, np.float32),
    }
    bounds = {"act_min": 0, "act_max": 255, "headroom": 0}
    ops = (
        *program.ops,
        Op(op="add", inputs=("y", "y", "y"), output="sum", attrs=bounds, tensors=rescaling),
        Op(op="add", inputs=("y", "sum", "y"), output="z", attrs=bounds, tensors=rescaling),
        replace(program.ops[0], inputs=("z",), output="w", tensors=one_layer(channels=4).ops[0].tensors),
    )
    more = {
        name: replace(program.values["y"], name=name, shape=shape)
        for name, shape in (("sum", (4,)), ("z", (4,)), ("w", (4,)))
    }
    program = replace(program, values=program.values | more, ops=ops, output="w")
    executable = Native(batch_size=2).compile(program)
    q = random_input(program, 5)
    assert executable.notes == (
        "backend native: add by the reference's kernels: 2 of 4 operators, 14.3% of operations",
    )
    assert (executable.run(q) == Reference().compile(program).run(q)).all()
    assert executable.trace(q).keys() == {"x", "y", "sum", "z", "w"}


def test_without_an_engine_onednn_runs_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "find_library", lambda isa: "there is no C++ compiler")
    program = one_layer()
    with caplog.at_level(logging.WARNING):
        executable = Native().compile(program)
    note = "backend native: there is no C++ compiler; onednn runs instead"
    assert executable.notes[0] == note
    assert executable.name in ("onednn", "reference")
    assert note in caplog.text
    q = random_input(program, 3)
    assert (executable.run(q) == Reference().compile(program).run(q)).all()


def test_without_fallback_a_missing_engine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "find_library", lambda isa: "there is no compiler")
    with pytest.raises(PipelineError, match=r"no compiler\. Remedy: backend=onednn, backend=reference or "):
        Native(fallback=False).compile(one_layer())


def test_an_instruction_set_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"isa=avx3: .*valid: .*avx2.*; or null for the fastest of this CPU"):
        Native(isa="avx3")


def test_an_instruction_set_of_another_cpu_is_refused_whatever_the_fallback() -> None:
    other = "avx2" if platform.machine() == "aarch64" else "neon_dotprod"
    with pytest.raises(
        PipelineError, match=rf"isa={other}: this CPU lacks it .*scalar; or null for the fastest"
    ):
        Native(isa=other).compile(one_layer())


def test_it_says_which_instruction_set_its_kernels_are_for() -> None:
    assert instruction_set_of(Native(isa="scalar").compile(one_layer())) == "scalar"
    assert instruction_set_of(Native().compile(one_layer())) == library.find_library().isa
    assert instruction_set_of(Reference().compile(one_layer())) == ""


@pytest.mark.parametrize(("field", "value"), [("threads", 0), ("batch_size", 0)])
def test_fields_are_checked(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"{field}={value}: must be at least 1"):
        Native(**{field: value})


def test_a_compiled_engine_is_kept(tmp_path: Path) -> None:
    assert _found(tmp_path) == "Library"
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "quantization-pipeline").iterdir()}
    assert sorted(file.name.split("-")[0] for file in kept) == ["cpu", "engine"]
    assert _found(tmp_path) == "Library"
    assert {file: file.stat().st_mtime_ns for file in next(iter(kept)).parent.iterdir()} == kept


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("no-such-compiler", "there is no C++ compiler (CXX, or c++ on the PATH, or pip"),
        ("false", "false fails: "),
    ],
)
def test_a_compiler_that_is_missing_or_fails_is_a_reason(tmp_path: Path, compiler: str, reason: str) -> None:
    found = _found(tmp_path, CXX=compiler)
    assert found.startswith(reason) or reason in found
    assert not list(tmp_path.rglob("*.so"))


def test_where_the_system_has_no_compiler_that_of_ziglang_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(library, "find_spec", lambda name: None)
    assert library.find_compiler() is None
    monkeypatch.setattr(library, "find_spec", lambda name: name if name == "ziglang" else None)
    assert library.find_compiler() == (sys.executable, "-m", "ziglang", "c++")


def _found(cache: Path, **environment: str) -> str:
    """What a fresh process finds: the type of a library, or the reason."""
    script = (
        "from stages.backends.native_kernels.library import find_library\n"
        "found = find_library()\n"
        "print(found if isinstance(found, str) else type(found).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@settings(max_examples=100, deadline=None)
@given(program=programs(modes=MODES), seed=st.integers(0, 99), scale=st.sampled_from([0.3, 1.0, 1e3]))
def test_reals_become_the_levels_of_quantize_input(program: Program, seed: int, scale: float) -> None:
    """Ties, values beyond the range and counts that fill no vector among them."""
    value = program.values[program.input]
    steps = np.random.default_rng(seed).integers(-1000, 1000, (3, *value.shape)) / 2
    x = (steps * scale * value.scale).astype(np.float32)
    executable = Native(threads=1, fallback=False).compile(program)
    expected = dequantize_output(program, executable.run(quantize_input(program, x)))
    assert (executable.predict(x) == expected).all()


def test_levels_that_lie_otherwise_in_memory_are_the_same_reals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference's kernels, which may give the output, choose how it lies."""
    program = one_layer()
    executable = Native(threads=1, fallback=False).compile(program)
    x = np.random.default_rng(0).normal(0, 50, (7, 8)).astype(np.float32)
    expected, run = executable.predict(x), executable.run
    monkeypatch.setattr(executable, "run", lambda q: np.asfortranarray(run(q)))
    assert (executable.predict(x) == expected).all()
    assert len(np.unique(expected)) > 1


def test_reals_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"input 'x': got shape \(1, 9\), must be \(N, 8\)"):
        Native().compile(one_layer()).predict(np.zeros((1, 9), np.float32))
