"""A few of the random configurations of `tests.random_runs`, of another seed than its own."""

import random

import pytest

from tests.random_runs import draw, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("random_runs")


@pytest.mark.parametrize("seed", range(8))
def test_a_run_completes_with_equal_integers_or_is_refused_before_it_computes(seed, folder):
    overrides = draw(random.Random(1000 + seed))
    outcome = run(overrides, folder)
    assert outcome.kind in ("equal", "tolerated", "simulated", "refused"), (overrides, outcome)
