import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.integer.interpreter import Interpreter
from stages.integer.program import Program
from stages.integer.unsigned import from_unsigned, to_unsigned, unsigned
from tests.stages.integer.strategies import MODES, programs, random_input


@settings(max_examples=100, deadline=None)
@given(program=programs(modes=MODES))
def test_a_program_over_unsigned_levels_computes_the_same(program: Program) -> None:
    q = random_input(program, samples=2)
    shifted = unsigned(program)
    assert all(value.dtype == np.uint8 for value in shifted.values.values())
    expected = Interpreter(program, threads=1).trace(q)
    for name, levels in Interpreter(shifted, threads=1).trace(to_unsigned(q)).items():
        back = from_unsigned(levels, program.values[name])
        assert back.dtype == program.values[name].dtype
        assert (back == expected[name]).all()


@given(signed=st.booleans(), channels=st.integers(1, 3))
def test_to_unsigned_copies_in_channels_last_order(signed: bool, channels: int) -> None:
    q = np.arange(channels * 8).reshape(1, channels, 2, 4).astype(np.int8 if signed else np.uint8)
    levels = to_unsigned(q)
    assert not np.shares_memory(q, levels)
    assert (levels.astype(int) - q.astype(int) == (128 if signed else 0)).all()
    assert levels.transpose(0, 2, 3, 1).flags.c_contiguous
