import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.integer.interpreter import Interpreter, dequantize_output, quantize_input
from stages.integer.program import Op, Program, Value
from tests.stages.integer import oracle
from tests.stages.integer.strategies import ALL_OPS, MODES, programs, random_input


@pytest.mark.parametrize("op", ALL_OPS)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_every_operator_equals_unbounded_integers(op: str, data: st.DataObject) -> None:
    program = data.draw(programs(ops=(op, "reshape"), modes=MODES))
    q = random_input(program, samples=2)
    _equal(Interpreter(program, threads=1).trace(q), oracle.run(program, q))


@settings(max_examples=200, deadline=None)
@given(program=programs(modes=MODES), samples=st.integers(1, 3))
def test_programs_equal_unbounded_integers(program: Program, samples: int) -> None:
    q = random_input(program, samples)
    _equal(Interpreter(program, threads=1).trace(q), oracle.run(program, q))


def _equal(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(actual) == list(expected)
    for name in actual:
        assert (actual[name].astype(object) == expected[name]).all(), name


@settings(max_examples=30, deadline=None)
@given(program=programs(modes=MODES), batch_size=st.integers(1, 5), threads=st.integers(1, 3))
def test_batches_threads_and_memory_order_change_nothing(
    program: Program, batch_size: int, threads: int
) -> None:
    q = random_input(program, samples=7)
    expected = Interpreter(program, threads=1).trace(q)[program.output]
    split = Interpreter(program, batch_size=batch_size, threads=threads)
    assert (split.run(q) == expected).all()
    channels_last = np.ascontiguousarray(q.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    before = channels_last.copy()
    assert (split.run(channels_last) == expected).all()
    assert (channels_last == before).all()


def test_no_samples_give_an_empty_result() -> None:
    program = _identity()
    assert Interpreter(program).run(np.zeros((0, 3), np.uint8)).shape == (0, 3)


def _identity() -> Program:
    levels = {"scale": 0.5, "zero_point": 10, "quant_min": 0, "quant_max": 254}
    values = {name: Value(name=name, shape=(3,), **levels) for name in ("x", "y")}
    reshape = Op(op="reshape", inputs=("x",), output="y", attrs={"shape": (3,)})
    return Program(values=values, ops=(reshape,), input="x", output="y")


def test_quantize_input_rounds_half_to_even_and_clamps() -> None:
    x = np.array([[0.25, 0.75, -0.25], [1e9, -1e9, -5.0]], np.float32)
    assert quantize_input(_identity(), x).tolist() == [[10, 12, 10], [254, 0, 0]]


def test_dequantize_output_subtracts_the_zero_point() -> None:
    real = dequantize_output(_identity(), np.array([[10, 11, 0]], np.uint8))
    assert real.dtype == np.float32
    assert real.tolist() == [[0.0, 0.5, -5.0]]


def test_wrong_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"input 'x': got int8 \(1, 3\), must be uint8 \(N, 3\)"):
        Interpreter(_identity()).run(np.zeros((1, 3), np.int8))
    with pytest.raises(ValueError, match=r"input 'x': got uint8 \(1, 4\), must be uint8 \(N, 3\)"):
        Interpreter(_identity()).trace(np.zeros((1, 4), np.uint8))
    with pytest.raises(ValueError, match=r"input 'x': got shape \(1, 4\), must be \(N, 3\)"):
        quantize_input(_identity(), np.zeros((1, 4), np.float32))
