"""Questions that tell the ways to round apart, in the constraints of every runtime that is asked."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from stages.integer.validate import validate
from stages.probing.arithmetics import PROFILES, arithmetics
from stages.probing.questions import MAKERS, questions

ROUNDINGS = ("float", "fixed_point", "fixed_point_single")


@pytest.mark.parametrize("operator", MAKERS)
def test_every_question_is_a_program_of_one_operator_with_its_levels(operator):
    asked = list(questions((operator,)))
    assert asked
    for question in asked:
        assert question.operator == operator
        for profile in PROFILES:
            validate(replace(question.program, requantize=profile))
        x = question.program.values[question.program.input]
        assert (question.levels.shape[1:], question.levels.dtype) == (x.shape, np.int8)
        assert [op.op for op in question.program.ops if op.op != "constant"] == [question.program.ops[-1].op]


@pytest.mark.parametrize("operator", sorted(MAKERS.keys() - {"softmax"}))
def test_the_roundings_disagree_on_what_is_asked(operator):
    """Softmax is computed in one way by all; every other operator tells each two of them apart."""
    apart: dict[tuple[str, str], int] = defaultdict(int)
    for question in questions((operator,)):
        levels = arithmetics(question)
        for pair in combinations(ROUNDINGS, 2):
            apart[pair] += int((levels[pair[0]] != levels[pair[1]]).sum())
    assert min(apart.values()) > 0, dict(apart)


def test_scales_are_numbers_that_float32_has():
    for question in questions():
        for value in question.program.values.values():
            assert value.scale == float(np.float32(value.scale))


@pytest.mark.parametrize("operator", ["conv2d", "depthwise conv2d", "linear"])
def test_a_layers_arithmetics_are_all_told_apart(operator):
    apart: dict[tuple[str, str], int] = defaultdict(int)
    for question in questions((operator,)):
        levels = arithmetics(question)
        for pair in combinations(levels.keys() - {"tflm"}, 2):  # of layers that is fixed_point
            apart[pair] += int((levels[pair[0]] != levels[pair[1]]).sum())
    assert len(apart) == 10 and min(apart.values()) > 0, dict(apart)


def test_the_sums_are_what_the_profiles_round():
    for question in questions(("conv2d", "depthwise conv2d", "linear", "linear per tensor")):
        (op,) = question.program.ops
        axis = (-1, *[1] * (question.sums.ndim - 2))
        ratio = op.tensors["ratio"].astype(np.float64).reshape(axis)
        exact = np.clip(question.sums * ratio + 3, -128, 127)
        assert np.abs(arithmetics(question)["float"] - exact).max() < 0.51
