"""What is said about changed predictions is what a loop over samples finds."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.reporting.confusion import MOST_CLASSES, confusion_plot, prediction_changes

triples = st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=80)


def compare(samples):
    labels, before, after = np.array(samples, dtype=np.int64).T
    return prediction_changes({"labels": labels, "float": before, "integer": after})


@given(triples)
def test_counts_equal_a_loop_over_samples(samples):
    changes = compare(samples)
    moved = [(label, f, i) for label, f, i in samples if f != i]
    assert changes.changed == len(moved)
    assert changes.corrected == sum(i == label for label, _, i in moved)
    assert changes.broken == sum(f == label for label, f, _ in moved)
    indices = sorted(row.index for row in changes.classes)
    pairs = Counter((f, i) for _, f, i in moved)
    found = {
        (a, b): int(n)
        for a, row in zip(indices, changes.matrix, strict=True)
        for b, n in zip(indices, row, strict=True)
        if n
    }
    assert found == dict(pairs)
    for row in changes.classes:
        assert row.net == sum(i == row.index for *_, i in samples) - sum(
            f == row.index for _, f, _ in samples
        )
        of_class = [i for label, _, i in samples if label == row.index]
        expected = sum(i == row.index for i in of_class) / len(of_class) if of_class else None
        assert row.integer_recall == expected


def test_many_classes_are_cut_to_those_with_the_most_changes():
    classes = MOST_CLASSES + 20
    samples = [(c, c, (c + 1) % classes) for c in range(classes)] + [(7, 7, 8)] * 5
    changes = compare(samples)
    assert len(changes.classes) == MOST_CLASSES
    assert changes.hidden == 20
    assert {row.index for row in changes.classes[:2]} == {7, 8}
    assert changes.changed == len(samples)


def test_without_predictions_there_is_nothing_to_say():
    assert prediction_changes({}) is None


def test_classes_go_by_their_names_where_these_are_known():
    predictions = {"labels": [0, 1, 2], "float": [0, 1, 2], "integer": [1, 1, 0]}
    given = {name: np.array(values) for name, values in predictions.items()}
    changes = prediction_changes(given, ("cat", "ox"))
    assert {row.index: row.name for row in changes.classes} == {0: "cat", 1: "ox", 2: "2"}
    plot = confusion_plot(changes)
    assert "1 from cat to ox" in plot and "1 from 2 to cat" in plot
