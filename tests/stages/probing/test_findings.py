"""What a runtime's integers are said to be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import ConfigError, PipelineError
from stages.backends.reference import Reference
from stages.integer.program import Integers, Program
from stages.probe import Probe
from stages.probing.findings import Expected, Finding, ask
from stages.probing.questions import Question, questions
from stages.probing.runtimes import RUNTIMES, Runtime

ASKED = list(questions(("linear", "requantize")))


class Shifted:
    """The reference's integers in an arithmetic, the first of them one level higher."""

    name = "shifted"
    notes = ()

    def __init__(self, program: Program) -> None:
        self._reference = Reference().compile(program)

    def run(self, q: Integers) -> Integers:
        levels = self._reference.run(q).copy()
        levels.reshape(-1)[:1] += 1
        return levels

    def trace(self, q: Integers) -> dict[str, Integers]:
        raise NotImplementedError


def found(runtime: Runtime, asked: list[Question] = ASKED) -> list[Finding]:
    return list(ask("it", runtime, asked, Expected(asked)))


@pytest.mark.parametrize("profile", ["float", "fixed_point", "fixed_point_single"])
def test_a_runtime_that_computes_a_profile_has_it(profile):
    findings = found(Runtime(package="numpy", compile=Reference().compile, form=profile))
    assert [one.operator for one in findings] == ["linear", "requantize"]
    for one in findings:
        assert (one.runtime, one.version, one.refused) == ("it", np.__version__, "")
        assert profile in one.profiles
        assert not {"float", "fixed_point", "fixed_point_single"} - {profile} & set(one.profiles)
        assert one.verdict == ", ".join(one.profiles)


def test_a_runtime_that_forms_ratios_in_float32_is_told_from_one_that_rounds_them_once():
    def compile_(program: Program) -> object:
        (op,) = program.ops
        if "weight" in op.tensors:
            x, y = (np.float32(program.values[name].scale) for name in "xy")
            ratio = (x * op.tensors["weight_scale"] / y).astype(np.float32)
            program = replace(program, ops=(replace(op, tensors={**op.tensors, "ratio": ratio}),))
        return Reference().compile(program)

    layer, copy = found(Runtime(package="numpy", compile=compile_))
    assert layer.profiles == ("float",)
    assert copy.profiles == ("float",)


def test_one_level_is_seen_and_counted():
    runtime = Runtime(package="numpy", compile=Shifted, form="fixed_point")
    layer = found(runtime)[0]
    compared = sum(question.levels.shape[0] * 60 for question in ASKED if question.operator == "linear")
    assert (layer.profiles, layer.off_by, layer.differing, layer.compared) == ((), 1, 2, compared)
    assert layer.verdict == f"none: off by 1 on 2 of {compared:,}, nearest {layer.nearest}"
    assert layer.nearest == "fixed_point"


def test_a_runtime_that_is_missing_is_named_with_the_remedy():
    (one,) = found(Runtime(package="no-such-package", compile=Reference().compile))
    assert (one.version, one.operator) == ("", "")
    assert one.verdict == "not asked: no-such-package is not installed; pip install '.[bench]'"


def test_what_a_runtime_refuses_is_said_by_operator_and_once_where_it_refuses_all():
    def no(program: Program) -> object:
        raise PipelineError("no such kernel\nmore")

    def no_layers(program: Program) -> object:
        return no(program) if program.ops[-1].op == "linear" else Reference().compile(program)

    (one,) = found(Runtime(package="numpy", compile=no))
    assert (one.operator, one.verdict) == ("", "not asked: no such kernel")
    layer, copy = found(Runtime(package="numpy", compile=no_layers))
    assert (layer.operator, layer.refused, copy.refused) == ("linear", "no such kernel", "")
    assert "float" in copy.profiles


@pytest.mark.parametrize("key", ["runtimes", "operators"])
def test_an_unknown_name_lists_the_others(key):
    with pytest.raises(ConfigError, match=rf"probe\.{key}: unknown 'x'; valid: "):
        Probe(**{key: ("x",)})


def test_tflite_micro_has_the_profile_of_its_name_in_every_operator():
    asked = list(questions())
    for one in ask("tflm", RUNTIMES["tflm"], asked, Expected(asked)):
        assert "tflm" in one.profiles, one.verdict


def test_programs_are_handed_over_in_the_runtimes_form():
    forms = []

    def compile_(program: Program) -> object:
        forms.append(program.requantize)
        return Reference().compile(program)

    found(replace(RUNTIMES["tflm"], package="numpy", compile=compile_), ASKED[:1])
    assert forms == ["tflm"]
