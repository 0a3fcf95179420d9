"""Every pair of options either works or is refused before anything is computed, and each refusal says why."""

from itertools import product
from pathlib import Path

import pytest

import conf
from pipeline.errors import ConfigError
from pipeline.runner import check_wiring
from pipeline.stage import in_order
from stages.quant.quantizers.codebook import Codebook
from tests.composed import built
from tests.random_runs import SHORT, run

CONF = Path(conf.__file__).parent
GROUPS = ("training", "correction", "quantizer", "granularity", "estimator", "calibration", "backend")


def options(group):
    names = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    return [f"correction=[{name}]" if group == "correction" else f"{group}={name}" for name in names]


def trains(overrides):
    return any(
        f"training={name}" in overrides for name in ("qat_finetune", "qat_scratch", "further_then_qat")
    )


def expected(overrides):
    """The reasons for which a combination has to be refused."""
    reasons = []
    for name in ("adaround", "reconstruct", "bias"):
        if trains(overrides) and f"correction=[{name}]" in overrides:
            reasons.append(f"stage '{name}': correction={name} is for networks that are not trained after")
    if trains(overrides) and "granularity=per_group" in overrides:
        reasons.append("stage 'finetune': granularity=per_group: scales of groups are not trained")
    choosing = {"codebook": "Codebook", "stochastic": "Stochastic", "apot": "AdditivePowersOfTwo"}
    for name, cls in choosing.items():
        if f"quantizer={name}" in overrides and "correction=[adaround]" in overrides:
            reasons.append(f"stage 'adaround': correction=adaround: {cls} chooses the levels")
    return reasons


PAIRS = [pair for a, b in product(GROUPS, GROUPS) if a < b for pair in product(options(a), options(b))]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_a_pair_is_refused_where_it_cannot_work(pair):
    reasons = expected(pair)
    if not reasons:
        check_wiring(in_order(built(*pair).stages))
        return
    with pytest.raises(ConfigError) as refusal:
        check_wiring(in_order(built(*pair).stages))
    assert all(reason in str(refusal.value) for reason in reasons)
    assert "Remedy: " in str(refusal.value)


@pytest.mark.parametrize("backend", ["native", "onednn", "reference"])
def test_float_activations_have_no_integers(backend):
    stages = built("quantizer.activation=null", f"backend={backend}").stages
    with pytest.raises(ConfigError, match=r"stage 'convert': quantizer\.activation=null.*backend=simulation"):
        check_wiring(in_order(stages))


@pytest.mark.parametrize("layer", ["weight: {_target_: stages.quant.quantizers.codebook.Codebook}"])
def test_a_rule_for_layers_is_looked_at_too(layer, monkeypatch):
    # as of a quantizer of the user's, whose levels have no gradient: a codebook's have one
    monkeypatch.setattr("stages.finetune.untrainable", lambda weight: isinstance(weight, Codebook))
    rule = f"+quantizer.layers={{classifier: {{{layer}}}}}"
    with pytest.raises(ConfigError, match=r"quantizer\.layers\.classifier\.weight: Codebook chooses levels"):
        built("training=qat_finetune", rule)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("correction=[adaround,reconstruct]",), "both choose how weights are rounded"),
        (
            (
                "correction=[reconstruct]",
                "quantizer=codebook",
                "quantizer.activation=null",
                "backend=simulation",
            ),
            "correction=reconstruct: Codebook chooses the levels of weights itself",
        ),
    ],
)
def test_a_correction_that_has_nothing_to_do_is_refused(overrides, reason):
    with pytest.raises(ConfigError, match=rf"stage 'reconstruct': .*{reason}.*Remedy: "):
        check_wiring(in_order(built(*overrides).stages))


WHOLE = [
    ("training=qat_finetune", "correction=[equalize,smooth]", "model=lenet300_100", SHORT),
    ("training=qat_finetune", "correction=[equalize]", "correction.equalize.replace_relu6=true", SHORT),
    ("granularity=per_group", "correction=[adaround,bias]"),
    ("granularity=per_group", "correction=[equalize,smooth]", "model=lenet300_100"),
    ("quantizer=codebook", "correction=[reconstruct,bias]"),
    ("quantizer=apot", "correction=[reconstruct]"),
    ("quantizer=apot", "training=qat_finetune", "estimator=pact", SHORT),
    ("quantizer=power_of_two", "correction=[equalize,reconstruct,bias]"),
    ("granularity=per_group", "correction=[reconstruct]", "quantizer.residual_bits=8"),
    ("backend=simulation", "quantizer.activation=null", "correction=[reconstruct]"),
    ("quantizer=stochastic", "training=qat_finetune", "estimator=dsq", SHORT),
    ("backend=simulation", "quantizer.activation=null", "correction=[equalize,adaround,bias]"),
    ("quantizer=codebook", "backend=simulation", "quantizer.activation=null", "correction=[smooth,bias]"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("combinations")


@pytest.mark.parametrize("overrides", WHOLE, ids="-".join)
def test_what_is_not_refused_works(overrides, folder):
    quick = {"adaround": "rounding", "reconstruct": "optimization"}
    short = [f"correction.{n}.{own}.iterations=20" for n, own in quick.items() if n in str(overrides)]
    outcome = run((*overrides, *short), folder)
    assert outcome.kind in ("equal", "simulated"), outcome
