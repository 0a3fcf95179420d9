import pkgutil
from dataclasses import is_dataclass

import numpy as np
import pytest

import stages.backends
from pipeline.errors import PipelineError
from stages.backends.base import Backend, load_backend
from stages.backends.reference import Reference
from stages.integer.program import Op, Program, Value
from tests.stages.integer.strategies import MODES

NAMES = sorted({m.name for m in pkgutil.iter_modules(stages.backends.__path__) if not m.ispkg} - {"base"})


@pytest.mark.parametrize("name", NAMES)
def test_every_backend_is_found_by_its_module_name(name: str) -> None:
    backend = load_backend(name)
    assert isinstance(backend, Backend)
    assert is_dataclass(backend)
    assert backend.name == name
    assert backend.exact <= set(MODES)


def test_the_reference_is_exact_in_every_mode() -> None:
    assert Reference.exact == set(MODES)


def test_an_unknown_backend_lists_the_others() -> None:
    with pytest.raises(
        PipelineError, match=r"unknown backend 'onednm'; did you mean 'onednn'\? valid: native, onednn, "
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
