"""Each task puts its outputs into words; what is said can be read back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.errors import PipelineError
from stages.tasks.answering import Answering, Wording, load_task, sigmoid, softmax, values

TASKS = ("classification", "binary", "multilabel", "regression", "segmentation", "embedding")


def said(task: str, outputs: list, **wording: object) -> list:
    answers = load_task(task).answers(np.array(outputs, np.float32), Wording(**wording))
    return json.loads(json.dumps(answers, allow_nan=False))


def test_classes_come_with_names_and_probabilities_the_lowest_of_equals_first():
    (answer,) = said("classification", [[0.0, np.log(2.0), np.log(2.0)]], names=("a", "b", "c"), top=2)
    first, second = ({"label": n, "index": i, "score": 0.4} for n, i in (("b", 1), ("c", 2)))
    assert answer == {**first, "top": [first, second]}


def test_a_program_that_ends_in_softmax_gives_the_scores_itself():
    (answer,) = said("classification", [[0.25, 0.75]], shares=True)
    assert (answer["index"], answer["score"], answer["label"]) == (1, 0.75, None)


def test_a_binary_answer_is_what_is_decided_and_how_probable_that_is():
    no, yes, tie = said("binary", [[-np.log(3.0)], [np.log(3.0)], [0.0]], names=("no", "yes"))
    assert no == {"label": "no", "index": 0, "score": 0.75}
    assert yes == {"label": "yes", "index": 1, "score": 0.75}
    assert tie["index"] == 0


def test_labels_that_are_there_are_listed_most_probable_first():
    (answer,) = said("multilabel", [[1.0, -1.0, 2.0]], names=("a", "b", "c"), top=1)
    assert [one["label"] for one in answer["labels"]] == ["c", "a"]
    assert [one["label"] for one in answer["top"]] == ["c"]
    assert said("multilabel", [[-1.0, -2.0]])[0]["labels"] == []


@pytest.mark.parametrize(("task", "key"), [("regression", "values"), ("embedding", "vector")])
def test_numbers_read_back_as_the_same_float32(task, key):
    outputs = np.random.default_rng(0).standard_normal((3, 7)).astype(np.float32)
    answers = load_task(task).answers(outputs, Wording())
    back = np.array([json.loads(json.dumps(one))[key] for one in answers], np.float32)
    assert back.tobytes() == outputs.tobytes()


def test_a_map_is_its_runs():
    outputs = np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype(np.float32)
    for answer, own in zip(load_task("segmentation").answers(outputs, Wording()), outputs, strict=True):
        classes, pixels = zip(*json.loads(json.dumps(answer))["runs"], strict=True)
        whole = np.repeat(classes, pixels).reshape(answer["height"], answer["width"])
        assert (whole == own.argmax(axis=0)).all()
        assert sum(one["score"] for one in answer["classes"]) == pytest.approx(1.0, abs=1e-5)


def test_of_a_map_of_one_class_there_is_one_run():
    outputs = np.zeros((1, 2, 2, 3), np.float32)
    (answer,) = load_task("segmentation").answers(outputs, Wording(names=("sky", "sea")))
    assert answer["runs"] == [[0, 6]]
    assert answer["classes"] == [{"label": "sky", "index": 0, "score": 1.0}]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_words(name):
    assert isinstance(load_task(name), Answering)


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(PipelineError, match=r"task=clasification: unknown; did you mean 'classification'\?"):
        load_task("clasification")


def test_without_a_task_the_numbers_are_the_answer_in_their_shape():
    assert values(np.array([[[0.1, 2.0]]], np.float32)) == [{"values": [[0.1, 2.0]]}]


def test_extreme_outputs_have_probabilities():
    assert softmax(np.array([[1e30, -1e30]], np.float32)).tolist() == [[1.0, 0.0]]
    assert sigmoid(np.array([1e30, -1e30, 0.0], np.float32)).tolist() == [1.0, 0.0, 0.5]


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="top=0: must be at least 1"):
        Wording(top=0)
