"""The verdict is an artifact: judged before the report, acted on by the last stage."""

import numpy as np
import pytest

from pipeline.errors import ConfigError, ParityError
from stages.artifacts import Metrics, Verdict
from stages.verdict import Judge
from stages.verify import Verify
from tests.composed import built


def test_verify_raises_what_the_verdict_says(ctx):
    predictions = {"simulated": np.zeros(4, np.int64), "integer": np.array([0, 0, 0, 1])}
    metrics = Metrics(values={}, predictions=predictions, backend="native")
    verdict = Judge(min_agreement=0.9).run(ctx, {Metrics: metrics})
    with pytest.raises(
        ParityError, match=r"agree on 3 of 4 samples \(0\.7500\), below evaluate\.min_agr"
    ) as e:
        Verify().run(ctx, {Verdict: verdict})
    assert str(e.value) == verdict.broken
    Verify().run(ctx, {Verdict: Judge(min_agreement=0.75).run(ctx, {Metrics: metrics})})


def test_settings_are_checked_before_anything_runs():
    with pytest.raises(ConfigError, match=r"evaluate\.max_off_by=-1: must be 0 or more"):
        Judge(max_off_by=-1)
    with pytest.raises(ConfigError, match=r"evaluate\.min_agreement=2\.0: must be a share"):
        built("evaluate.min_agreement=2.0")


def test_by_default_the_backend_declares_the_contract():
    judge = built().stages["verdict"]
    assert (judge.min_agreement, judge.max_off_by) == (None, None)
