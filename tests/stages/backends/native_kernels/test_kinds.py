"""Whatever operators a network has, the engine runs all of them, and gives the reference's integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.backends.native import Native
from stages.backends.reference import Reference
from stages.integer.program import Program
from stages.integer.validate import validate
from tests.stages.backends.native_kernels.kinds import KINDS
from tests.stages.integer.strategies import MODES, programs, random_input


def compared(program: Program, threads: int) -> None:
    """All values, by the engine alone."""
    validate(program)
    q = random_input(program, 2)
    expected = Reference(threads=1).compile(program).trace(q)
    executable = Native(threads=threads, fallback=False).compile(program)
    assert executable.notes == ()
    found = executable.trace(q)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert np.array_equal(found[name], value), name
    assert np.array_equal(executable.run(q), expected[program.output])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(data=st.data(), threads=st.integers(1, 3))
def test_all_kinds_are_the_references(kind: str, data: st.DataObject, threads: int) -> None:
    compared(data.draw(KINDS[kind]), threads)


@settings(max_examples=150, deadline=None)
@given(program=programs(modes=MODES, ranks=(1, 2, 3, 4)), threads=st.integers(1, 3))
def test_no_operator_leaves_the_engine(program: Program, threads: int) -> None:
    compared(program, threads)
