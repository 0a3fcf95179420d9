"""The verdict is what the contract says of the figures, with counts, the worst layer and the remedy."""

from dataclasses import replace

import numpy as np
import pytest

from stages.artifacts import LayerParity, Metrics, Parity, Verdict
from stages.backends.base import Tolerance
from stages.measuring.verdict import Contract, judge

ROUNDS = Tolerance(off_by=1, min_agreement=0.99, reason="backend onednn rounds fixed_point in its own way")


def metrics(agree=90, samples=90, **fields):
    integer = np.zeros(samples, np.int64)
    integer[agree:] = 1
    predictions = {"simulated": np.zeros(samples, np.int64), "integer": integer}
    return Metrics(**{"values": {}, "predictions": predictions, "backend": "native"} | fields)


def parity(simulated=None, backend=None):
    layers = (
        LayerParity(
            name="first",
            op="conv2d",
            simulated_minus_integer={0: 100},
            reference_minus_backend={0: 100},
            sqnr_db=30.0,
        ),
        LayerParity(
            name="last",
            op="linear",
            simulated_minus_integer=simulated or {0: 50},
            reference_minus_backend=backend or {0: 50},
            sqnr_db=30.0,
        ),
    )
    return Parity(layers=layers, samples=10, agreeing=10)


def test_an_exact_backend_has_to_be_equal_in_everything():
    verdict = judge(metrics(), parity(), Contract())
    assert verdict == Verdict(demanded="agreement of at least 100.00%, all levels equal")


def test_one_sample_of_ninety_is_counted_and_the_remedy_said():
    verdict = judge(metrics(agree=89), parity(), Contract(min_agreement=0.99))
    assert verdict.broken == (
        "integers and simulation agree on 89 of 90 samples (0.9889), below evaluate.min_agreement=0.99. "
        "Worst layer: 'first' (conv2d), off by up to 0, equal on 100.0000% of its values. "
        "On an exact backend this is a fault of ours; evaluate.min_agreement=0.9888 accepts it"
    )
    accepted = Contract(min_agreement=0.9888)
    assert judge(metrics(agree=89), parity(), accepted).broken is None


def test_a_declared_bound_is_said_to_be_declared():
    verdict = judge(metrics(agree=89, backend="onednn", tolerance=ROUNDS), None, Contract())
    assert verdict.demanded == (
        "agreement of at least 99.00%; backend onednn rounds fixed_point in its own way, each operator by "
        "up to 1"
    )
    assert verdict.broken == (
        "integers and simulation agree on 89 of 90 samples (0.9889), below evaluate.min_agreement=0.99, what "
        "backend onednn declares. Remedy: backend=native is exact; evaluate.min_agreement=0.9888 accepts it"
    )


def test_a_level_is_named_with_its_layer():
    verdict = judge(metrics(), parity(simulated={0: 9, -5: 1}), Contract())
    assert verdict.broken == (
        "simulation and integers differ by up to 5 levels, above evaluate.max_off_by=0, backend native being "
        "exact. Worst layer: 'last' (linear), off by up to 5, equal on 90.0000% of its values. On an exact "
        "backend this is a fault of ours; evaluate.max_off_by=5 accepts it"
    )
    for most, broken in ((4, True), (5, False), (255, False)):
        verdict = judge(metrics(), parity(simulated={0: 9, -5: 1}), Contract(max_off_by=most))
        assert (verdict.broken is not None) == broken
        assert verdict.demanded.endswith(f"no level off by more than {most}")


def test_differences_of_a_backend_that_rounds_otherwise_are_not_limited_unless_asked():
    inexact = metrics(tolerance=ROUNDS, backend="onednn")
    differing = parity(simulated={0: 9, 3: 1}, backend={0: 9, 3: 1})
    assert judge(inexact, differing, Contract()).broken is None
    assert "above evaluate.max_off_by=2. Worst" in judge(inexact, differing, Contract(max_off_by=2)).broken


def test_an_exact_backend_has_to_give_the_references_levels_too():
    broken = judge(metrics(), parity(backend={0: 9, 1: 1}), Contract()).broken
    assert broken.startswith("reference and backend differ by up to 1 levels, above evaluate.max_off_by=0, ")


def test_a_demand_of_nothing_is_no_contract():
    assert judge(metrics(agree=0), None, Contract(min_agreement=0.0)) == Verdict()
    assert judge(metrics(agree=0), replace(parity(), samples=0), Contract(min_agreement=0.0)) == Verdict()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"min_agreement": 1.5}, r"min_agreement=1\.5: must be a share, 0\.\.1, or null"),
        ({"min_agreement": -0.1}, r"min_agreement=-0\.1: must be a share"),
        ({"max_off_by": -1}, "max_off_by=-1: must be 0 or more, or null"),
    ],
)
def test_a_contract_that_cannot_be_meant_is_refused(fields, text):
    with pytest.raises(ValueError, match=text):
        Contract(**fields)


def test_a_verdict_is_kept(tmp_path):
    verdict = judge(metrics(agree=1), parity(), Contract())
    verdict.save(tmp_path)
    assert Verdict.load(tmp_path) == verdict
