"""Whatever operators a network has, the engine runs all of them, and gives the reference's integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.native import Native
from stages.backends.native_kernels.instruction_sets import available
from stages.backends.native_kernels.library import cpu_features, find_compiler
from stages.backends.reference import Reference
from stages.integer.program import Op, Program, Value
from stages.integer.validate import validate
from tests.stages.backends.native_kernels.kinds import KINDS
from tests.stages.integer.strategies import MODES, programs, random_input

COMPILER = find_compiler()
HERE = list(available(cpu_features(COMPILER))) if COMPILER else []
"""The instruction sets of this CPU."""


def compared(program: Program, threads: int, isa: str | None = None) -> None:
    """All values, by the engine alone."""
    validate(program)
    q = random_input(program, 2)
    expected = Reference(threads=1).compile(program).trace(q)
    executable = Native(threads=threads, isa=isa, fallback=False).compile(program)
    assert executable.notes == ()
    found = executable.trace(q)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert np.array_equal(found[name], value), name
    assert np.array_equal(executable.run(q), expected[program.output])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=80, deadline=None)
@given(data=st.data(), threads=st.integers(1, 3))
def test_all_kinds_are_the_references(kind: str, data: st.DataObject, threads: int) -> None:
    program = data.draw(KINDS[kind])
    for isa in (None, *HERE[1:]):  # None, for the fastest, says where there is no compiler
        compared(program, threads, isa)


def test_tokens_that_there_are_not_are_refused() -> None:
    levels = {"scale": 1.0, "zero_point": 0, "quant_min": 0, "quant_max": 299}
    values = {
        "x": Value(name="x", shape=(2,), **levels),
        "y": Value(name="y", shape=(2, 3), **levels | {"quant_max": 255}),
    }
    op = Op(op="embedding", inputs=("x",), output="y", tensors={"table": np.ones((300, 3), np.uint8)})
    program = Program(values=values, ops=(op,), input="x", output="y", requantize="float")
    for backend in (Native(fallback=False), Reference()):
        executable = backend.compile(program)
        assert executable.run(np.array([[0, 299]], np.int32)).all()
        for wrong in (-1, 300):
            with pytest.raises(ValueError, match=r"input 'x': tokens -?\d+\.\.\d+: must be within 0\.\.299"):
                executable.run(np.array([[5, wrong]], np.int32))


@settings(max_examples=150, deadline=None)
@given(program=programs(modes=MODES, ranks=(1, 2, 3, 4)), threads=st.integers(1, 3))
def test_no_operator_leaves_the_engine(program: Program, threads: int) -> None:
    compared(program, threads)
