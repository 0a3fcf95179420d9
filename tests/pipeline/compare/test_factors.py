"""What differs between runs, from what MLflow holds of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.compare.factors import UNSET, find_factors, ordered, overrides


def test_groups_come_first_then_settings_and_what_never_changes_apart(runs):
    factors = find_factors(runs)
    assert list(factors.varying) == ["calibration", "granularity", "quantizer", "quantizer.weight.bits"]
    assert factors.varying["quantizer.weight.bits"][:4] == ("8", "4", "8", "4")
    assert factors.constant == {"data": "digits", "model": "mobilenet_digits", "seed": "0"}


def test_the_seed_counts_and_where_runs_are_kept_does_not(make):
    tags = {"overrides": "tracking.uri=a store.path=b threads=2"}
    params = {"seed": "0", "sweep.resume": "True"}
    pair = [make(i, {}, params=params, tags=tags | {"seed": str(i), "sweep": str(i)}) for i in range(2)]
    assert find_factors(pair).varying == {"seed": ("0", "1")}


def test_a_setting_that_only_one_run_overrides_has_its_resolved_value_in_the_others(make):
    params = [{"calibration.samples": "512"}, {"calibration.samples": "64"}]
    tags = [{"overrides": ""}, {"overrides": "calibration.samples=64 +lr=1"}]
    pair = [make(i, {}, params=params[i], tags=tags[i]) for i in range(2)]
    assert find_factors(pair).varying == {"calibration.samples": ("512", "64"), "lr": (UNSET, "1")}


def test_a_group_that_is_a_list_or_nothing_is_a_factor(make):
    chosen = ("None", "[equalize, bias]")
    pair = [make(i, {}, params={"correction": c}, tags={"correction": c}) for i, c in enumerate(chosen)]
    assert find_factors(pair).varying == {"correction": chosen}


def test_overrides_are_read_as_a_shell_reads_them(make):
    text = "quantizer=affine '+x=[1, 2]' ~correction hydra/launcher=joblib data@test=mnist"
    run = make(0, {}, tags={"overrides": text})
    expected = {"quantizer": "affine", "x": "[1, 2]", "hydra.launcher": "joblib", "data": "mnist"}
    assert dict(overrides(run)) == expected


def test_overrides_that_were_cut_short_do_no_harm(make):
    run = make(0, {}, tags={"overrides": "a=1 'b=2 c…"})
    assert ("a", "1") in list(overrides(run))


@given(st.lists(st.sampled_from(["10", "9", "2.5", "1e-3", "kl", "mse", UNSET])))
def test_options_are_ordered_by_value_then_by_name(options):
    right = ["1e-3", "2.5", "9", "10", "kl", "mse", UNSET]
    assert ordered(options) == [o for o in right if o in options]
