"""Each task's figures against loops over samples; outputs are few distinct numbers, so that many tie."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from stages.tasks.base import agreeing, figures_by_form
from stages.tasks.binary import Binary
from stages.tasks.classification import Classification
from stages.tasks.embedding import Embedding
from stages.tasks.multilabel import Multilabel
from stages.tasks.regression import Regression
from stages.tasks.segmentation import Segmentation

LEVELS = st.integers(-4, 4).map(float)


def array_of(shape, elements=LEVELS, dtype=np.float32):
    return hnp.arrays(dtype, shape, elements=elements)


def whole(labels, dtype=np.int64):
    return lambda shape: hnp.arrays(dtype, shape, elements=labels)


@given(st.data())
def test_top1_and_top5(data):
    n, classes = data.draw(st.integers(1, 8)), data.draw(st.integers(2, 14))
    outputs = data.draw(array_of((n, classes)))
    labels = data.draw(whole(st.integers(0, classes - 1))(n))
    ranked = [sorted(range(classes), key=lambda c, row=row: (-row[c], c)) for row in outputs]
    expected = {"top1": sum(r[0] == y for r, y in zip(ranked, labels, strict=True)) / n}
    if classes >= 10:
        expected["top5"] = sum(y in r[:5] for r, y in zip(ranked, labels, strict=True)) / n
    assert Classification().figures(outputs, labels) == expected
    assert Classification().decisions(outputs).tolist() == [r[0] for r in ranked]
    tied = [sorted(row)[-1] == sorted(row)[-2] for row in outputs.tolist()]
    assert Classification().tied(outputs).tolist() == tied


@given(st.data())
def test_accuracy_of_one_logit(data):
    n = data.draw(st.integers(1, 12))
    outputs, labels = data.draw(array_of((n, 1))), data.draw(whole(st.integers(0, 1))(n))
    right = sum((o > 0) == y for o, y in zip(outputs[:, 0], labels, strict=True))
    for shaped in (labels, labels[:, None], labels.astype(np.float32)):
        assert Binary().figures(outputs, shaped)["accuracy"] == right / n
    assert ("auroc" in Binary().figures(outputs, labels)) == (0 < labels.sum() < n)


@given(st.data())
def test_labels_of_several_kinds(data):
    n, kinds = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 4))
    outputs, labels = data.draw(array_of((n, kinds))), data.draw(whole(st.integers(0, 1))((n, kinds)))
    figures = Multilabel().figures(outputs, labels)
    scores = []
    for kind in range(kinds):
        said, true = [o > 0 for o in outputs[:, kind]], [y == 1 for y in labels[:, kind]]
        tp = sum(a and b for a, b in zip(said, true, strict=True))
        if sum(said) + sum(true):
            scores.append(2 * tp / (sum(said) + sum(true)))
    exact = sum((o > 0).tolist() == (y == 1).tolist() for o, y in zip(outputs, labels, strict=True))
    assert figures["exact_match"] == exact / n
    assert figures.get("macro_f1") == (pytest.approx(np.mean(scores)) if scores else None)
    assert ("mean_average_precision" in figures) == bool(labels.any())


@given(st.data())
def test_errors_of_numbers(data):
    n, numbers = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3))
    outputs, labels = data.draw(array_of((n, numbers))), data.draw(array_of((n, numbers)))
    figures = Regression().figures(outputs, labels)
    errors = [float(o) - float(y) for o, y in zip(outputs.flat, labels.flat, strict=True)]
    assert figures["rmse"] == pytest.approx(math.sqrt(sum(e * e for e in errors) / len(errors)))
    assert figures["mae"] == pytest.approx(sum(map(abs, errors)) / len(errors))
    shares = []
    for o, y in zip(outputs.T.tolist(), labels.T.tolist(), strict=True):
        spread = sum((v - sum(y) / n) ** 2 for v in y)
        if len(set(y)) > 1:
            shares.append(1 - sum((a - b) ** 2 for a, b in zip(o, y, strict=True)) / spread)
    assert figures.get("r2") == (pytest.approx(np.mean(shares)) if shares else None)
    if numbers == 1:
        assert Regression().figures(outputs[:, 0], labels[:, 0]) == figures


@given(st.data())
def test_intersections_over_unions(data):
    n, classes, ignored = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 4)), (-100, 255)
    outputs = data.draw(array_of((n, classes, 2, 3)))
    labels = data.draw(whole(st.sampled_from([*range(classes), *ignored]))((n, 2, 3)))
    pairs = [
        (int(np.argmax(outputs[i, :, r, c])), int(labels[i, r, c]))
        for i in range(n)
        for r in range(2)
        for c in range(3)
        if labels[i, r, c] not in ignored
    ]
    figures = Segmentation().figures(outputs, labels)
    if not pairs:
        assert figures == {}
        return
    shares = []
    for k in range(classes):
        either = sum(k in pair for pair in pairs)
        if either:
            shares.append(sum(pair == (k, k) for pair in pairs) / either)
    assert figures["miou"] == pytest.approx(np.mean(shares))
    assert figures["pixel_accuracy"] == sum(a == b for a, b in pairs) / len(pairs)


@given(st.data())
def test_cosines_and_retrieval(data):
    n, width = data.draw(st.integers(1, 8)), data.draw(st.integers(2, 4))
    elements = st.floats(-4, 4, width=16)
    outputs, reference = data.draw(array_of((n, width), elements)), data.draw(array_of((n, width), elements))
    labels = data.draw(whole(st.integers(0, 2))(n))
    figures = Embedding().figures(outputs, labels, reference)

    def cosine(a, b):
        if a.tolist() == b.tolist():
            return 1.0
        lengths = np.linalg.norm(a.astype(float)) * np.linalg.norm(b.astype(float))
        return float(a.astype(float) @ b.astype(float)) / lengths if lengths else 0.0

    expected = [cosine(a, b) for a, b in zip(outputs, reference, strict=True)]
    assert figures["cosine"] == pytest.approx(np.mean(expected))
    assert "cosine" not in Embedding().figures(outputs, labels)
    asked = [i for i in range(n) if (labels == labels[i]).sum() > 1]
    assert ("recall_at_1" in figures) == (len(asked) > 0 and len(set(labels.tolist())) > 1)


def test_the_nearest_other_sample_is_looked_for():
    outputs = np.array([[1, 0], [2, 0.1], [0, 1], [0.1, 3], [-1, 0], [5, 0.3]], np.float32)
    labels = np.array([0, 0, 1, 1, 2, 1])  # the fifth has no other of its class
    # nearest: 1 (right), 5 (wrong), 3 (right), 2 (right), not asked, 1 (wrong)
    assert Embedding().figures(outputs, labels) == {"recall_at_1": 0.6}


def batches_of(n):
    return [slice(0, 1), slice(1, 4), slice(4, n)]


@pytest.mark.parametrize(
    ("task", "shape", "labels"),
    [
        (Classification(), (9, 3), np.arange(9) % 3),
        (Binary(), (9, 1), np.arange(9) % 2),
        (Multilabel(), (9, 3), np.arange(27).reshape(9, 3) % 2),
        (Regression(), (9, 2), np.arange(18, dtype=np.float32).reshape(9, 2)),
        (Segmentation(), (9, 3, 2, 2), np.arange(36).reshape(9, 2, 2) % 3),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_batches_add_up_to_the_main_figure(task, shape, labels):
    outputs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert task.batched == task.measures[0]
    tallies = [
        task.tally(torch.from_numpy(outputs[rows]), torch.from_numpy(labels[rows])) for rows in batches_of(9)
    ]
    figure = task.figures(outputs, labels)[task.batched.key]
    assert task.score(torch.stack(tallies).sum(0)) == pytest.approx(figure, rel=1e-6)
    assert figure > 0.0
    assert math.isnan(task.score(torch.zeros_like(tallies[0])))


def test_forms_are_held_against_float():
    outputs = {"float": np.eye(3, dtype=np.float32), "integer": 2 * np.eye(3, dtype=np.float32)}
    figures = figures_by_form(Embedding(), outputs, np.zeros(3, np.int64))
    assert figures == {"integer/cosine": pytest.approx(1.0)}


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 4)])
def test_a_sample_agrees_where_all_of_it_does(shape):
    a = np.zeros(shape, np.int64)
    b = a.copy()
    b[1].flat[-1] = 1
    if len(shape) == 1:
        b[1] = 1
    assert agreeing(a, a).tolist() == [True, True]
    assert agreeing(a, b).tolist() == [True, False]


@given(array_of((4, 3)), array_of((4, 3)), st.sampled_from([1.0, 2.0]))
def test_divergences_are_none_of_equals_and_above_of_others(outputs, teacher, temperature):
    z, t = torch.from_numpy(outputs).double(), torch.from_numpy(teacher).double()
    for task in (Classification(), Binary(), Multilabel(), Regression()):
        assert float(task.divergence(z, z, temperature)) == pytest.approx(0.0, abs=1e-12)
        assert float(task.divergence(z, t, temperature)) >= -1e-12
    maps = (z.reshape(2, 3, 1, 2), t.reshape(2, 3, 1, 2))
    assert float(Segmentation().divergence(*maps, temperature)) >= -1e-12
    expected = torch.nn.functional.kl_div(
        torch.log_softmax(z / temperature, 1), torch.softmax(t / temperature, 1), reduction="batchmean"
    )
    assert float(Classification().divergence(z, t, temperature)) == pytest.approx(
        temperature**2 * float(expected), abs=1e-9
    )


def test_pixels_that_do_not_count_teach_nothing():
    outputs = torch.randn(1, 3, 2, 2, requires_grad=True)
    labels = torch.tensor([[[0, 255], [-100, 2]]])
    loss = Segmentation().loss(outputs, labels)
    kept = outputs.detach()[0, :, [0, 1], [0, 1]].T
    expected = torch.nn.functional.cross_entropy(kept, torch.tensor([0, 2]))
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)
    loss.backward()
    assert outputs.grad[0, :, 0, 1].abs().sum() == outputs.grad[0, :, 1, 0].abs().sum() == 0.0
    assert float(Segmentation().loss(outputs, torch.full((1, 2, 2), 255))) == 0.0


def test_contrast_is_that_of_a_loop():
    torch.manual_seed(0)
    outputs, y = torch.randn(6, 4).double(), torch.tensor([0, 0, 1, 1, 1, 2])
    unit = outputs / outputs.norm(dim=1, keepdim=True)
    losses = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        total = sum(math.exp(float(unit[i] @ unit[j]) / 0.1) for j in others)
        alike = [j for j in others if y[j] == y[i]]
        if alike:
            shares = [float(unit[i] @ unit[j]) / 0.1 - math.log(total) for j in alike]
            losses.append(-sum(shares) / len(alike))
    assert float(Embedding().loss(outputs, y)) == pytest.approx(sum(losses) / 5)


def test_smoothed_yes_is_less_sure():
    outputs, y = torch.tensor([[2.0]]), torch.tensor([1])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs, torch.tensor([[0.95]]))
    assert float(Binary().loss(outputs, y, 0.1)) == pytest.approx(float(expected))
