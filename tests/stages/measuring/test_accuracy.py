"""What logits say: accuracy, agreement, ties and noise; what is not there is left out."""

import numpy as np
import pytest

from pipeline.console import Console
from stages.data.base import Split
from stages.data.digits import Digits
from stages.measuring.accuracy import compared_ids, figures, outputs_of, sample_ids, sqnr_db
from stages.tasks.classification import Classification

TASK = Classification()
LABELS = np.array([0, 1, 2, 0])
FLOAT = np.array([[3, 1, 0], [0, 2, 1], [0, 1, 2], [1, 2, 0]], np.float32)


def test_figures_of_all_forms():
    integer = FLOAT.copy()
    integer[2] = [0, 2, 2]  # a tie: the lower class, which is wrong
    values = figures(TASK, {"float": FLOAT, "simulated": FLOAT, "integer": integer}, LABELS)
    assert values == {
        "float/top1": 0.75,
        "simulated/top1": 0.75,
        "integer/top1": 0.5,
        "integer/agreement": 0.75,
        "integer/tied_top1": 0.25,
        "integer/sqnr_db": pytest.approx(10 * np.log10(25.0 / 1.0)),
    }


def test_of_classes_that_tie_the_lowest_wins_in_every_form():
    tied = np.array([[1, 7, 7], [7, 7, 7], [5, 0, 5]], np.float32)
    forms = dict.fromkeys(("float", "simulated", "integer"), tied)
    assert [TASK.decisions(own).tolist() for own in forms.values()] == [[1, 0, 0]] * 3
    assert figures(TASK, forms, np.zeros(3, np.int64))["integer/tied_top1"] == 1.0


def test_what_is_not_there_is_not_a_figure():
    assert figures(TASK, {"integer": FLOAT}, LABELS) == {"integer/top1": 0.75, "integer/tied_top1": 0.0}
    assert figures(TASK, {"float": FLOAT}, LABELS) == {"float/top1": 0.75}
    assert figures(TASK, {}, LABELS) == {}
    simulated = figures(TASK, {"float": FLOAT, "simulated": FLOAT + 1}, LABELS)
    assert set(simulated) == {"float/top1", "simulated/top1", "simulated/sqnr_db"}


def test_equal_logits_have_no_ratio_of_noise():
    assert set(figures(TASK, {"float": FLOAT, "integer": FLOAT}, LABELS)) == {
        "float/top1",
        "integer/top1",
        "integer/tied_top1",
    }
    assert sqnr_db(1.0, 0.0) is sqnr_db(0.0, 0.0) is None
    assert sqnr_db(100.0, 1.0) == 20.0
    assert np.isfinite(sqnr_db(0.0, 1.0))


def test_the_compared_samples_are_some_of_the_measured_ones():
    split = Digits().test()
    ids, compared = sample_ids(split, 90, 5), compared_ids(split, 90, 20, 5)
    assert (len(ids), len(compared)) == (90, 20)
    assert set(compared) <= set(ids)
    assert sample_ids(split, None, 5).tolist() == list(range(len(split)))
    assert sample_ids(split, 90, 6).tolist() != ids.tolist()


def test_every_form_sees_the_same_samples_in_order():
    data = Digits()
    split = Split(images=data.test().images[:10], labels=data.test().labels[:10])
    ids = np.array([1, 4, 7, 8, 9])
    seen = {"a": [], "b": []}

    def form(name):
        return lambda x: seen[name].append(x) or x.numpy().reshape(len(x), -1)[:, :3]

    logits = outputs_of({n: form(n) for n in seen}, data, split, ids, 2, Console(quiet=True))
    assert logits["a"].tolist() == logits["b"].tolist()
    assert [len(x) for x in seen["a"]] == [2, 2, 1]
    alone = outputs_of({"a": form("a")}, data, split, ids[2:3], 2, Console(quiet=True))
    assert alone["a"].tolist() == logits["a"][2:3].tolist()
    assert outputs_of({}, data, split, ids, 2, Console(quiet=True)) == {}
