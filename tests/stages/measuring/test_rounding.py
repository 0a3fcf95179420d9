"""The cost of a rounding is counted on the reference, mode by mode, against the chosen one."""

from dataclasses import replace

import numpy as np
import pytest

from stages.artifacts import RoundingCost, Roundings
from stages.backends.reference import Reference
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.interpreter import quantize_input
from stages.integer.program import Op, Program, Value
from stages.measuring.rounding import MODES, ModeComparison
from stages.tasks.classification import Classification


def halving() -> Program:
    """Quarters of levels: many are ties, which each mode takes its own way."""
    levels = {"shape": (2,), "scale": 1.0, "zero_point": 0, "quant_min": -127, "quant_max": 127}
    multiplier, shift = quantize_multiplier(np.array([0.25]))
    ratio = {"multiplier": multiplier, "shift": shift, "ratio": np.array([0.25], np.float32)}
    op = Op(
        op="requantize",
        inputs=("x",),
        output="y",
        attrs={"act_min": -127, "act_max": 127},
        tensors=ratio,
    )
    return Program(values={n: Value(name=n, **levels) for n in "xy"}, ops=(op,), input="x", output="y")


X = np.array([[2, 1], [-2, -4], [6, 8], [-6, -9], [1, 5]], np.float32)
"""A quarter of it: 0.5, 0.25; −0.5, −1; 1.5, 2; −1.5, −2.25; 0.25, 1.25."""
EXPECTED = {
    "fixed_point": [[1, 1], [-1, -1], [2, 2], [-2, -2], [1, 2]],
    "fixed_point_single": [[1, 0], [0, -1], [2, 2], [-1, -2], [0, 1]],
    "float": [[0, 0], [0, -1], [2, 2], [-2, -2], [0, 1]],
}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_rounds_in_its_way(mode):
    program = replace(halving(), requantize=mode)
    assert Reference().compile(program).run(quantize_input(program, X)).tolist() == EXPECTED[mode]


def costs(chosen: str, exact: frozenset[str] = frozenset()) -> dict[str, RoundingCost]:
    program = replace(halving(), requantize=chosen)
    comparison = ModeComparison(program, Reference(), Classification())
    labels = np.array([0, 0, 0, 1, 1])
    for batch in (slice(0, 2), slice(2, 5)):
        comparison.update(X[batch], labels[batch])
    return {cost.mode: cost for cost in comparison.roundings(exact).costs}


@pytest.mark.parametrize("chosen", MODES)
def test_modes_are_compared_with_the_chosen_one(chosen):
    found = costs(chosen)
    assert next(iter(found)) == chosen
    assert set(found) == set(MODES)
    own = np.array(EXPECTED[chosen])
    for mode, cost in found.items():
        levels = np.array(EXPECTED[mode])
        assert cost.equal_share == (levels == own).mean()
        assert cost.max_off_by == np.abs(levels - own).max()
        assert cost.agreement == (levels.argmax(1) == own.argmax(1)).mean()
        assert cost.quality == (levels.argmax(1) == [0, 0, 0, 1, 1]).mean()


def test_what_a_backend_computes_exactly_is_said():
    assert {mode: cost.exact for mode, cost in costs("float", frozenset({"float"})).items()} == {
        "float": True,
        "fixed_point": False,
        "fixed_point_single": False,
    }


def test_without_samples_there_is_no_cost():
    assert ModeComparison(halving(), Reference(), Classification()).roundings(frozenset()).costs == ()


def test_costs_are_kept_and_recorded(tmp_path):
    roundings = Roundings(costs=tuple(costs("float").values()))
    roundings.save(tmp_path)
    assert Roundings.load(tmp_path) == roundings
    names = {f"rounding/{mode}/{figure}" for mode in MODES for figure in ("equal_share", "top1")}
    assert set(roundings.metrics()) == names
    assert roundings.metrics()["rounding/float/equal_share"] == 1.0
