"""The calls give the reference's integers, for every kind of processor, compiled strictly, sanitized."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings

from stages.exporters.cmsis_code.model import problems, program_to_cmsis
from stages.exporters.cmsis_nn import CmsisNN
from stages.integer.interpreter import Interpreter
from stages.integer.profiles.adapt import to_tflm
from stages.integer.program import Op, Program, Value
from stages.integer.ratios import rescaling
from tests.stages.exporters.cmsis_code.compiled import PROCESSORS, compile_cmsis, run_cmsis
from tests.stages.exporters.tflite_file.networks import convolution, convolutional, layer, value
from tests.stages.integer.strategies import programs, random_input

BOUNDS = {"act_min": -128, "act_max": 127}


def assert_same(program: Program, processor: str = "plain", samples: int = 4) -> None:
    q = random_input(program, samples)
    with tempfile.TemporaryDirectory() as folder:
        binary = compile_cmsis(program, Path(folder), *PROCESSORS[processor])
        found = run_cmsis(binary, program, q)
    np.testing.assert_array_equal(found, Interpreter(to_tflm(program), threads=1).run(q))


def program_of(*ops: Op, values: list[Value]) -> Program:
    return Program(
        values={one.name: replace(one, scale=float(np.float32(one.scale))) for one in values},
        ops=ops,
        input=values[0].name,
        output=ops[-1].output,
        requantize="tflm",
    )


@pytest.mark.parametrize("processor", PROCESSORS)
def test_a_network_gives_the_references_integers(processor):
    assert_same(convolutional("tflm"), processor, samples=20)


def test_a_network_in_another_arithmetic_is_brought_into_tflites_form():
    assert_same(convolutional("fixed_point"))


CONVOLUTIONS = {
    "pointwise": (value("x", (6, 4, 5)), (9, 6, 1, 1), (1, 1), (0, 0), (1, 1)),
    "strided": (value("x", (6, 5, 5), zero_point=-9), (4, 6, 1, 1), (2, 2), (0, 0), (1, 1)),
    "dilated": (value("x", (2, 9, 7), zero_point=127), (3, 2, 3, 2), (1, 2), (1, 1), (2, 1)),
    "grouped": (value("x", (6, 5, 5), zero_point=-128), (8, 3, 3, 3), (2, 1), (1, 1), (1, 1)),
    "depthwise": (value("x", (6, 5, 5), zero_point=3), (6, 1, 5, 3), (2, 1), (2, 1), (1, 1)),
    "depthwise, dilated": (value("x", (3, 7, 6), zero_point=3), (3, 1, 3, 3), (1, 1), (1, 1), (2, 2)),
    "depthwise, twice": (value("x", (3, 7, 6), zero_point=3), (6, 1, 3, 3), (1, 1), (1, 1), (1, 1)),
    "row": (value("x", (4, 1, 9), zero_point=7), (5, 4, 1, 3), (1, 2), (0, 0), (1, 1)),
    "row, padded": (value("x", (4, 1, 9), zero_point=7), (5, 4, 1, 3), (1, 1), (0, 1), (1, 1)),
    "row, padded above": (value("x", (4, 1, 3), zero_point=7), (5, 4, 1, 3), (1, 1), (1, 0), (1, 1)),
}


@pytest.mark.parametrize("processor", ["dsp", "mve"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_convolutions_give_the_references_integers(kind, processor):
    x, weight, stride, padding, dilation = CONVOLUTIONS[kind]
    sizes = [
        (size + 2 * pad - step * (k - 1) - 1) // apart + 1
        for size, pad, step, k, apart in zip(x.shape[1:], padding, dilation, weight[2:], stride, strict=True)
    ]
    y = value("y", (weight[0], *sizes), 0.5, -7)
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": x.shape[0] // weight[1]}
    assert_same(program_of(layer("conv2d", x, y, weight, {**attrs, "act_max": 90}), values=[x, y]), processor)


def test_padded_rows_do_not_take_the_way_that_knows_tflites_padding_alone():
    x, *_ = CONVOLUTIONS["row, padded"]
    y = value("y", (5, 1, 9), 0.5)
    attrs = {"stride": (1, 1), "padding": (0, 1), "dilation": (1, 1), "groups": 1}
    source = program_to_cmsis(program_of(layer("conv2d", x, y, (5, 4, 1, 3), attrs), values=[x, y])).source
    assert "arm_convolve_s8(" in source and "arm_convolve_wrapper_s8(" not in source


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize(
    ("axes", "keepdim"), [((1, 2), True), ((1, 2), False), ((0,), False), ((2,), False), ((0, 1, 2), True)]
)
def test_means_give_the_references_integers(axes, keepdim, processor):
    """Over pixels as a depthwise layer, over channels as a fully connected one, over columns between."""
    x = value("x", (5, 3, 6), 0.0625, 11)
    left = [1 if i in axes else size for i, size in enumerate(x.shape) if keepdim or i not in axes]
    y = value("y", tuple(left), 0.03, -4)
    count = np.prod([x.shape[axis] for axis in axes])
    ratio = rescaling(x.scale / y.scale / count)
    attrs = {"axes": axes, "keepdim": keepdim, **BOUNDS}
    assert_same(
        program_of(Op(op="mean", inputs=("x",), output="y", attrs=attrs, tensors=ratio), values=[x, y]),
        processor,
    )


@pytest.mark.parametrize("op", ["add", "multiply"])
@pytest.mark.parametrize("first", [True, False])
def test_a_value_a_channel_is_repeated_over_the_pixels(op, first):
    x, m, y = value("x", (5, 3, 4), 0.05, 3), value("m", (5, 1, 1), 0.04, -20), value("y", (5, 3, 4), 0.06, 1)
    mean = Op(
        op="mean",
        inputs=("x",),
        output="m",
        attrs={"axes": (1, 2), "keepdim": True, **BOUNDS},
        tensors=rescaling(0.05 / 0.04 / 12),
    )
    ratios = [x.scale / y.scale, m.scale / y.scale] if op == "add" else x.scale * m.scale / y.scale
    inputs = ("x", "m") if first else ("m", "x")
    attrs = {"act_min": -100, "act_max": 90, "headroom": 0}
    last = Op(op=op, inputs=inputs, output="y", attrs=attrs, tensors=rescaling(ratios))
    assert_same(program_of(mean, last, values=[x, m, y]))


def test_a_residual_and_its_sum_do_not_lie_on_scratch_memory():
    """The shim overwrites scratch memory whole; the input of the block lives until its sum."""
    x, a, b, y = value("x", (6, 5, 5)), *(value(name, (6, 5, 5), 0.125) for name in "aby")
    total = rescaling([1.0, 1.0])
    attrs = {**BOUNDS, "headroom": 0}
    program = program_of(
        convolution(x, a),
        convolution(a, b),
        Op(op="add", inputs=("a", "b"), output="y", attrs=attrs, tensors=total),
        values=[x, a, b, y],
    )
    for processor in PROCESSORS:
        assert_same(program, processor)
    assert program_to_cmsis(program).arena_bytes == {"plain": 528, "dsp": 528, "mve": 560}


def test_a_network_may_leave_its_input_unread():
    x, c, y = value("x", (1,)), value("c", (2,)), value("y", (2,))
    levels = {"levels": np.array([3, -4], np.int8)}
    attrs = {**BOUNDS, "headroom": 0}
    constant = Op(op="constant", inputs=("x",), output="c", tensors=levels)
    add = Op(op="add", inputs=("c", "c"), output="y", attrs=attrs, tensors=rescaling([1.0, 1.0]))
    assert_same(program_of(constant, add, values=[x, c, y]))


@pytest.mark.parametrize(("ends", "steps"), [((3, 7, 6), (1, 2, 3)), ((3, 5, 4), (1, 1, 1))])
def test_every_nth_pixel_of_an_image_is_taken(ends, steps):
    shape = tuple(len(range(0, end, step)) for end, step in zip(ends, steps, strict=True))
    attrs = {"starts": (0, 0, 0), "ends": ends, "steps": steps}
    taken = Op(op="slice", inputs=("x",), output="y", attrs=attrs)
    values = [value("x", (3, 7, 6), zero_point=5), value("y", shape, zero_point=5)]
    assert_same(program_of(taken, values=[replace(v, scale=0.5) for v in values]), "mve")


def test_other_cuts_are_refused():
    attrs = {"starts": (0, 1, 0), "ends": (3, 7, 6), "steps": (1, 1, 1)}
    taken = Op(op="slice", inputs=("x",), output="y", attrs=attrs)
    (reason,) = problems(program_of(taken, values=[value("x", (3, 7, 6)), value("y", (3, 6, 6))]))
    assert reason.startswith("'y' (slice): cuts otherwise than to every n-th pixel. Remedy: ")


OPS = (
    "conv2d",
    "linear",
    "add",
    "avg_pool2d",
    "max_pool2d",
    "multiply",
    "reshape",
    "permute",
    "pad",
    "concat",
    "constant",
    "requantize",
    "softmax",
)


@settings(max_examples=6, deadline=None)
@given(program=programs(ops=OPS, modes=("fixed_point",), ranks=(1, 2, 3)))
def test_any_program_gives_the_references_integers(program):
    form = to_tflm(program)
    assume(not CmsisNN().refusals(form))
    assert_same(form, "mve")


def refused(op: str, shape: tuple[int, ...] = (4,), **attrs) -> list[str]:
    x, y = value("x", (4,)), value("y", shape)
    return problems(program_of(Op(op=op, inputs=("x",), output="y", attrs=attrs), values=[x, y]))


def test_refuses_by_name_what_has_no_call():
    assert refused("table") == [
        "no form in CMSIS-NN for table (y). Remedy: leave this export out, or a network without it"
    ]


def test_refuses_wide_levels_and_unsigned_ones():
    x = replace(value("x", (4,)), quant_min=0, quant_max=255)
    y = replace(x, name="y")
    pads = {"pads": ((0, 0),)}
    (reason,) = problems(program_of(Op(op="pad", inputs=("x",), output="y", attrs=pads), values=[x, y]))
    assert reason == (
        "levels that are not int8 (x, y). Remedy: 8-bit activations; of an imported file, an int8 one"
    )


def test_refuses_sums_that_are_called_means_and_softmax_of_another_scale():
    x, y = value("x", (4, 3)), value("y", (4,))
    attrs = {"axes": (1,), "keepdim": False, **BOUNDS}
    mean = Op(op="mean", inputs=("x",), output="y", attrs=attrs, tensors=rescaling(1.0))
    assert problems(program_of(mean, values=[x, y])) == [
        "'y' (mean): is 3 times a mean. Remedy: a mean in place of a sum"
    ]
    softmax = Op(op="softmax", inputs=("x",), output="z", attrs={"axis": 1, **BOUNDS})
    assert problems(program_of(softmax, values=[x, value("z", (4, 3), 0.0078125)])) == [
        "'z' (softmax): has scale 0.0078125 and zero point 0; arm_softmax_s8 gives 1/256 and -128. "
        "Remedy: convert.arithmetic=tflm"
    ]
