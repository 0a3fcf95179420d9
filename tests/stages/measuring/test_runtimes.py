"""A runtime is held against our integers level by level; one that fails is named, and the others go on."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.errors import PipelineError
from stages.backends.onnxruntime import OnnxRuntime
from stages.backends.reference import Reference
from stages.graph.lower import lower
from stages.integer.interpreter import dequantize_output, quantize_input
from stages.measuring.runtimes import RuntimeRun, differences
from stages.tasks.classification import Classification
from tests.stages.reporting.conftest import make_run

X = np.random.default_rng(0).standard_normal((6, 4, 5, 5)).astype(np.float32)
LABELS = np.zeros(6, np.int64)


@pytest.fixture(scope="module")
def program():
    return lower(make_run(["one", "two"]).model.quantized, "float")


class Odd:
    """A runtime that is the reference but for what a test says."""

    name = "odd"
    exact = frozenset()
    notes = ("an odd one",)

    def __init__(self, *, refuses="", fails_after=99, untraced="", shift=None, traced_shift=None):
        self.refuses, self.left, self.untraced = refuses, fails_after, untraced
        self.shift, self.traced_shift = shift or {}, traced_shift or {}

    def compile(self, program):
        if self.refuses:
            raise PipelineError(self.refuses)
        self.output, self.reference = program.output, Reference().compile(program)
        return self

    def run(self, q):
        if not self.left:
            raise RuntimeError("out of luck\nat great length")
        self.left -= 1
        return self._shifted(self.reference.run(q), self.shift.get(self.output, 0))

    def trace(self, q):
        if self.untraced:
            raise NotImplementedError(self.untraced)
        shifts = self.shift | self.traced_shift
        return {n: self._shifted(v, shifts.get(n, 0)) for n, v in self.reference.trace(q).items()}

    @staticmethod
    def _shifted(levels, shift):
        """The first element of each sample is off by `shift`, towards zero where it can."""
        moved = levels.copy()
        first = moved.reshape(len(moved), -1)[:, 0]
        moved.reshape(len(moved), -1)[:, 0] = np.where(first > 0, first - shift, first + shift)
        return moved


def ran(program, backend, batches=(slice(0, 4), slice(4, 6))):
    one = RuntimeRun("mine", backend, program)
    one.compile()
    exact = Reference().compile(program)
    for batch in batches:
        q = quantize_input(program, X[batch])
        one.update(q, exact.trace(q))
    own = dequantize_output(program, exact.run(quantize_input(program, X)))
    return one.result(Classification(), LABELS, own, x=X[:1], exported={"onnx_qdq": 123})


def test_an_equal_runtime_is_equal_everywhere(program):
    result = ran(program, Reference())
    assert result.output == {0: 6 * 100}
    assert [(layer.name, layer.op, layer.differences) for layer in result.layers] == [
        ("input", "input", {0: 600}),
        ("one", "conv2d", {0: 600}),
        ("two", "conv2d", {0: 600}),
    ]
    assert (result.agreement, result.refused, result.worst) == (1.0, "", None)
    assert (result.version, result.export, result.bytes) == ("", "", None)
    assert result.milliseconds > 0 and set(result.figures) == {"top1"}


def test_differences_are_counted_where_they_are(program):
    result = ran(program, Odd(shift={"one": 5, "two": 2}))
    assert sum(count for d, count in result.output.items() if abs(d) == 2) == 6
    assert result.output[0] == 594
    assert (result.worst.name, result.worst.largest) == ("one", 5)
    assert result.notes == ("an odd one",)


def test_a_trace_that_differs_from_the_run_is_noted(program):
    result = ran(program, Odd(traced_shift={"two": 1}))
    assert result.output == {0: 600} and result.worst.name == "two"
    assert result.notes[1].startswith("gives other output levels, 1.00% of them, where it shows")


def test_without_a_trace_there_is_an_output_all_the_same(program):
    result = ran(program, Odd(untraced="a black box"))
    assert result.output == {0: 600} and result.layers == ()
    assert result.notes[1] == "shows no values between input and output: a black box"


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (
            {"refuses": "no form for conv2d (one). Remedy: another"},
            "no form for conv2d (one). Remedy: another",
        ),
        ({"fails_after": 1}, "out of luck"),
    ],
)
def test_one_that_refuses_or_fails_is_named_with_its_reason(program, odd, why):
    result = ran(program, Odd(**odd))
    assert (result.refused, result.agreement, result.output, result.layers) == (why, None, {}, ())
    assert result.milliseconds is None


def test_a_real_runtime_says_its_version_and_the_file_that_is_its_own(program):
    import onnxruntime

    result = ran(program, OnnxRuntime(threads=1))
    assert (result.version, result.export, result.bytes) == (
        f"onnxruntime {onnxruntime.__version__}",
        "onnx_qdq",
        123,
    )
    assert sum(result.output.values()) == 600 and [layer.name for layer in result.layers] == [
        "input",
        "one",
        "two",
    ]


def test_differences_of_wide_levels_do_not_wrap():
    a, b = np.array([-30000, 5], np.int32), np.array([30000, 5], np.int32)
    assert differences(a, b) == {-60000: 1, 0: 1}
    assert differences(np.array([0], np.uint8), np.array([255], np.uint8)) == {-255: 1}
    assert differences(a[:0], b[:0]) == {}
