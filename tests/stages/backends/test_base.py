import pkgutil
from dataclasses import is_dataclass, replace
from typing import get_args

import numpy as np
import pytest

import stages.backends
from pipeline.errors import PipelineError
from stages.backends.base import EXACT, ONE_LEVEL, Backend, load_backend, predict, tolerance_of, what_ran
from stages.backends.native import Native
from stages.backends.onednn import OneDNN
from stages.backends.onnxruntime import OnnxRuntime
from stages.backends.openvino import OpenVino
from stages.backends.reference import Reference
from stages.integer.program import Op, Program, Requantize, Value

MODES = get_args(Requantize)
NAMES = sorted({m.name for m in pkgutil.iter_modules(stages.backends.__path__) if not m.ispkg} - {"base"})


@pytest.mark.parametrize("name", NAMES)
def test_every_backend_is_found_by_its_module_name(name: str) -> None:
    backend = load_backend(name)
    assert isinstance(backend, Backend)
    assert is_dataclass(backend)
    assert backend.name == name
    assert backend.exact <= set(MODES)
    assert backend.tolerance.exact == (backend.exact == set(MODES))


def test_the_reference_is_exact_in_every_mode() -> None:
    assert Reference.exact == set(MODES)


def program_of(op: Op, requantize: str) -> Program:
    levels = {"shape": (2,), "scale": 1.0, "zero_point": 0, "quant_min": 0, "quant_max": 255}
    values = {name: Value(name=name, **levels) for name in ("x", "y")}
    return Program(values=values, ops=(op,), input="x", output="y", requantize=requantize)


MOVE = Op(op="reshape", inputs=("x",), output="y", attrs={"shape": (2,)})


@pytest.mark.parametrize("mode", MODES)
def test_the_tolerance_is_zero_where_the_backend_computes_the_mode_exactly(mode: str) -> None:
    program = program_of(MOVE, mode)
    assert tolerance_of(Reference(), program) == tolerance_of(Native(), program) == EXACT
    declared = tolerance_of(OneDNN(), program)
    assert (declared.off_by, declared.min_agreement) == (1, 0.9)
    assert declared.reason == f"backend onednn rounds {mode} in its own way"


def test_fewer_than_8_bits_promise_no_agreement() -> None:
    program = program_of(MOVE, "fixed_point")
    for span, promised in ((255, True), (254, True), (253, False), (3, False)):
        values = program.values | {"y": replace(program.values["y"], quant_max=span)}
        declared = tolerance_of(OneDNN(), replace(program, values=values))
        assert (declared.off_by, declared.min_agreement > 0) == (1, promised)
        assert declared.reason.endswith("with fewer than 8 bits") != promised
        assert tolerance_of(Reference(), replace(program, values=values)) == EXACT


def test_settings_of_a_backend_may_widen_its_tolerance() -> None:
    assert OnnxRuntime(residual="exact").tolerance == OpenVino().tolerance == ONE_LEVEL
    assert OnnxRuntime().tolerance.off_by == 2  # a residual's sum is rounded twice
    assert OpenVino(precision="bf16").tolerance.min_agreement == 0.9


def test_what_ran_is_the_backend_that_another_fell_back_to() -> None:
    executable = Reference().compile(program_of(MOVE, "float"))
    assert what_ran(OneDNN(threads=1), executable) == Reference()
    assert what_ran(Reference(threads=3), executable) == Reference(threads=3)


def test_an_unknown_backend_lists_the_others() -> None:
    with pytest.raises(
        PipelineError, match=r"unknown backend 'onednm'; did you mean 'onednn'\? valid: .*native, onednn, "
    ):
        load_backend("onednm")


def test_the_reference_runs_traces_and_tells_times() -> None:
    levels = {"shape": (2,), "scale": 1.0, "zero_point": 0, "quant_min": 0, "quant_max": 255}
    values = {name: Value(name=name, **levels) for name in ("x", "y")}
    ops = (Op(op="reshape", inputs=("x",), output="y", attrs={"shape": (2,)}),)
    executable = Reference().compile(Program(values=values, ops=ops, input="x", output="y"), notes=("why",))
    q = np.array([[1, 255]], np.uint8)
    assert executable.name == "reference"
    assert executable.notes == ("why",)
    assert executable.run(q).tolist() == [[1, 255]]
    assert {name: value.tolist() for name, value in executable.trace(q).items()} == {
        "x": [[1, 255]],
        "y": [[1, 255]],
    }
    assert executable.profile(q).keys() == {"y"}


@pytest.mark.parametrize("name", ["native", "onednn", "onnxruntime", "openvino", "reference"])
def test_nan_is_refused_by_every_backend_alike(name: str) -> None:
    ratio = {
        "multiplier": np.array([2**30], np.int32),
        "shift": np.ones(1, np.int32),
        "ratio": np.ones(1, np.float32),
    }
    attrs = {"act_min": 0, "act_max": 255}
    program = program_of(Op(op="requantize", inputs=("x",), output="y", attrs=attrs, tensors=ratio), "float")
    x = np.ones((3, 2), np.float32)
    x[1, 1] = np.nan
    executable = load_backend(name).compile(program)
    with pytest.raises(ValueError, match=r"input: sample 1 of 3 holds NaN, .* Remedy: "):
        predict(executable, program, x)
    assert (predict(executable, program, np.full((1, 2), np.inf, np.float32)) == 255).all()
