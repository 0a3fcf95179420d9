"""Areas and precisions against pairs and thresholds counted one by one; ties are frequent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.tasks.ranking import auroc, average_precision

SAMPLES = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30)


def arrays(samples):
    return np.array([s for s, _ in samples], np.float32), np.array([p for _, p in samples], bool)


@given(SAMPLES)
def test_the_area_is_the_share_of_pairs_in_order(samples):
    pairs = [(a, b) for a, p in samples if p for b, q in samples if not q]
    found = auroc(*arrays(samples))
    if not pairs:
        assert found is None
    else:
        assert found == pytest.approx(sum(1.0 if a > b else 0.5 * (a == b) for a, b in pairs) / len(pairs))


@given(SAMPLES)
def test_average_precision_sums_over_thresholds(samples):
    total = sum(p for _, p in samples)
    found = average_precision(*arrays(samples))
    if not total:
        assert found is None
        return
    expected, before = 0.0, 0.0
    for threshold in sorted({s for s, _ in samples}, reverse=True):
        taken = [p for s, p in samples if s >= threshold]
        recall = sum(taken) / total
        expected += (recall - before) * sum(taken) / len(taken)
        before = recall
    assert found == pytest.approx(expected)


def test_they_are_what_scikit_learn_says():
    from sklearn.metrics import average_precision_score, roc_auc_score

    generator = np.random.default_rng(0)
    scores, positive = generator.integers(0, 9, 200).astype(np.float32), generator.random(200) < 0.3
    assert auroc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
    assert average_precision(scores, positive) == pytest.approx(average_precision_score(positive, scores))
