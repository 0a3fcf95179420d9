from __future__ import annotations

import os
from dataclasses import replace

import pytest

from stages.benchmarking.holding import COMPILER_TARGETS, VARIABLES, check_held, held_environment
from stages.benchmarking.process import FailedError, started
from tests.stages.benchmarking.competitors import Sleeper, Variable


def test_nobody_is_held_by_default():
    check_held(None)
    assert held_environment(None) == {}


def test_peers_are_held_on_x86_alone():
    for isa in VARIABLES:
        check_held(isa)
        assert held_environment(isa)["ONEDNN_MAX_CPU_ISA"]
    with pytest.raises(
        ValueError, match="isa=neon: peers can be held to avx512vbmi, avx512vnni, avxvnni, avx2, scalar"
    ):
        check_held("neon")
    assert set(COMPILER_TARGETS) < set(VARIABLES)


def test_a_held_competitor_has_a_process_with_the_variables_and_ours_has_none(case):
    variable = Variable(name="ONEDNN_MAX_CPU_ISA", value="AVX2")
    with started(variable, replace(case, isa="avx2")) as seconds:
        assert seconds(1) < 1.0
    with pytest.raises(FailedError, match="ONEDNN_MAX_CPU_ISA is None, not AVX2"), started(variable, case):
        pass
    assert "ONEDNN_MAX_CPU_ISA" not in os.environ


def test_one_that_is_not_isolated_is_when_it_is_held(case):
    with started(Sleeper(seconds=0.01), replace(case, isa="avx2")) as seconds:
        assert 0.01 <= seconds(1) < 0.2
