from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.console import Console
from pipeline.errors import ConfigError
from stages.backends.reference import Reference
from stages.benchmarking.competition import Competition
from stages.benchmarking.engine import Engine
from stages.benchmarking.torch_float import Eager
from stages.benchmarking.workload import Preparation, Workload, with_input
from stages.calibrate import Calibrate
from stages.convert import Convert
from stages.data.digits import Digits
from stages.data.noise import Noise
from stages.models.lenet import LeNet300100
from stages.observe import Observe
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from tests.stages.benchmarking.competitors import Answerer, Breaker, Refuser, Sleeper

DATA = Noise(shape=(1, 8, 8), samples=16, mean=(0.5,), std=(0.25,))
PREPARATION = Preparation(
    observe=Observe(data=Digits(), samples=8, batch_size=4),
    calibrate=Calibrate(
        quantizer=WeightsAndActivations(weight=Symmetric(signed=True), activation=Symmetric()),
        calibration=Calibration(activation=MinMax()),
        granularity=PerChannel(),
    ),
    convert=Convert(requantize="float"),
)
COMPETITION = Competition(
    workloads={"small": Workload(model=LeNet300100(), data=DATA, batch_sizes=(1, 20)), "none": None},
    competitors={"fast": Sleeper(seconds=0.001), "slow": Sleeper(seconds=0.004), "left out": None},
    baseline="fast",
    preparation=PREPARATION,
    threads=(1, 2),
    rounds=3,
    turn_seconds=0.0,
)


def test_settings_are_workloads_times_sizes_times_threads(tmp_path: Path):
    settings = list(COMPETITION.by_batch(0, tmp_path))
    assert [(s.workload, s.size, s.threads) for s, _ in settings] == [
        ("small", 1, 1),
        ("small", 1, 2),
        ("small", 20, 1),
        ("small", 20, 2),
    ]
    assert [(len(case.x), case.threads) for _, case in settings] == [(1, 1), (1, 2), (20, 1), (20, 2)]
    assert all(case.program is settings[0][1].program for _, case in settings)  # made once a workload


def test_sizes_of_the_calibration_set(tmp_path: Path):
    settings = list(COMPETITION.by_samples((4, 10), 0, tmp_path))
    assert [(s.size, s.threads, len(case.calibration.ids)) for s, case in settings] == [
        (4, 1, 4),
        (4, 2, 4),
        (10, 1, 10),
        (10, 2, 10),
    ]


def test_the_case_is_the_same_for_the_same_seed_and_calibrates_on_what_was_observed(tmp_path: Path):
    cases = []
    for seed, folder in ((0, "a"), (0, "b"), (1, "c")):
        (tmp_path / folder).mkdir()
        workload = COMPETITION.chosen()["small"]
        cases.append(PREPARATION.case(workload, seed=seed, scratch=tmp_path / folder))
    weights = [case.module.state_dict()["fc1.weight"] for case in cases]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert sum(len(x) for x in cases[0].calibration) == 8
    assert torch.equal(torch.cat(list(cases[0].calibration)), torch.cat(list(cases[1].calibration)))


def test_an_input_larger_than_the_split_repeats_it(case):
    x = with_input(case, 8, threads=2).x
    assert x.shape == (8, 3, 8, 8)
    assert torch.equal(x[:2], x[6:])


def test_every_competitor_has_a_row_with_a_timing_or_a_reason(case):
    competition = replace(
        COMPETITION,
        competitors={**COMPETITION.competitors, "missing": Refuser(), "breaks": Breaker(good=7)},
    )
    setting = next(iter(COMPETITION.by_batch(0, case.scratch)))[0]
    rows = {row.competitor: row for row in competition.rows(setting, case, Console(quiet=True))}
    assert list(rows) == ["fast", "slow", "missing", "breaks"]
    assert rows["fast"].timing.median < rows["slow"].timing.median
    assert rows["missing"].failure == "ImportError: No module named 'peer'"
    assert rows["missing"].timing is None
    assert rows["breaks"].failure == "RuntimeError: worn out"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds=0: must be at least 1"),
        ({"turn_seconds": -1.0}, "turn_seconds=-1.0: must not be negative"),
        ({"threads": ()}, r"threads=\[\]: must be one or more"),
        ({"baseline": "fsat"}, "baseline=fsat: did you mean 'fast'"),
        ({"baseline": "left out"}, "baseline=left out"),
        ({"networks": ("smal",)}, "networks: smal: did you mean 'small'"),
        ({"least_agreement": 1.5}, r"least_agreement=1.5: must be a correlation, in -1 \.\. 1"),
        ({"isa": "neon"}, "isa=neon: peers can be held to"),
        ({"clock": "cpu"}, r"clock=cpu with threads=\[1, 2\]: .*remedy: threads=\[1\], or clock=wall"),
    ],
)
def test_values_are_checked(change, message):
    with pytest.raises(ValueError, match=message):
        replace(COMPETITION, **change)


def test_networks_chooses_workloads_by_name_in_its_order():
    workloads = dict.fromkeys(("a", "b", "c"), COMPETITION.workloads["small"]) | {"none": None}
    assert list(replace(COMPETITION, workloads=workloads, networks=("c", "none", "a")).chosen()) == ["c", "a"]


def test_one_whose_outputs_are_not_the_networks_is_not_timed(tmp_path: Path):
    """Random weights, but outputs that can be compared: levels, reals and multiples of them agree."""
    setting, case = next(COMPETITION.by_batch(0, tmp_path))
    competitors = {
        "fast": Answerer(factor=1.0),
        "scaled": Answerer(factor=3.0),
        "noise": Answerer(factor=0.0),
    }
    competition = replace(COMPETITION, competitors=competitors)
    rows = {row.competitor: row for row in competition.rows(setting, case, Console(quiet=True))}
    assert rows["scaled"].agreement == pytest.approx(1.0)
    assert rows["scaled"].timing is not None
    assert rows["noise"].timing is None
    assert "its outputs are not the network's: correlation" in rows["noise"].failure
    assert rows["noise"].failure.endswith("with float, below least_agreement=0.5")


def test_the_time_of_the_cpu_leaves_out_what_it_sleeps(case):
    competition = replace(COMPETITION, threads=(1,), clock="cpu")
    setting = next(iter(COMPETITION.by_batch(0, case.scratch)))[0]
    rows = competition.rows(setting, replace(case, clock="cpu"), Console(quiet=True))
    assert {row.competitor: row.timing.median < 0.0005 for row in rows} == {"fast": True, "slow": True}


def test_who_is_a_peer_and_who_is_held_stands_in_the_rows(case):
    competitors = {"fast": Engine(backend=Reference()), "peer": Sleeper(seconds=0.0), "torch": Eager()}
    competition = replace(COMPETITION, competitors=competitors)
    setting = next(iter(COMPETITION.by_batch(0, case.scratch)))[0]
    case = replace(case, expected=None, x=case.x.new_zeros(2, 3, 8, 8))
    for isa, held in ((None, [True, True, True]), ("avx2", [True, False, True])):
        rows = replace(competition, isa=isa).rows(setting, case, Console(quiet=True))
        assert [row.peer for row in rows] == [False, True, True]
        assert [row.held for row in rows] == held


def test_a_competition_without_workloads_is_refused():
    with pytest.raises(ConfigError, match="workloads: every one of them is null"):
        replace(COMPETITION, workloads={"small": None}).check()


def test_batch_sizes_are_checked():
    with pytest.raises(ValueError, match=r"batch_sizes=\[0\]: must be one or more, each at least 1"):
        Workload(model=LeNet300100(), data=DATA, batch_sizes=(0,))
