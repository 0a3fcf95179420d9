"""What runtimes gave survives on disk, and its figures are the named ones."""

from __future__ import annotations

import pytest

from stages.artifacts import LayerDifference, RuntimeComparison, RuntimeResult


@pytest.fixture
def compared():
    return RuntimeComparison(
        results=(
            RuntimeResult(
                name="a",
                version="1.2",
                figures={"top1": 0.5},
                agreement=0.75,
                output={0: 6, -1: 2, 3: 2},
                layers=(
                    LayerDifference(name="input", op="input", differences={0: 9}),
                    LayerDifference(name="one", op="conv2d", differences={0: 8, -3: 1}),
                    LayerDifference(name="two", op="linear", differences={0: 7, 3: 2}),
                    LayerDifference(name="three", op="linear", differences={0: 7, 3: 2}),
                ),
                milliseconds=0.25,
                export="onnx_qdq",
                bytes=1000,
                notes=("rounds otherwise",),
            ),
            RuntimeResult(name="b", refused="takes no softmax"),
        ),
        own={"top1": 0.6},
        samples=4,
        exported={"tensorrt": 77},
        unwritten={"tflite": "no form"},
    )


def test_what_is_saved_is_what_is_loaded(compared, tmp_path):
    compared.save(tmp_path)
    assert RuntimeComparison.load(tmp_path) == compared


def test_figures_are_those_of_the_output_and_of_what_was_seen(compared):
    assert compared.metrics() == {
        "runtime/a/top1": 0.5,
        "runtime/a/agreement": 0.75,
        "runtime/a/max_off_by": 3.0,
        "runtime/a/equal_share": 0.6,
        "runtime/a/within_1": 0.8,
        "runtime/a/layer_max_off_by": 3.0,
        "runtime/a/milliseconds": 0.25,
    }


def test_the_worst_layer_has_the_largest_difference_and_of_equals_the_fewest_equal_levels(compared):
    assert compared.results[0].worst.name == "two"
    assert compared.results[1].worst is None
    assert RuntimeResult(name="c", layers=compared.results[0].layers[:1]).worst is None


def test_shares_of_the_output(compared):
    assert compared.results[0].off_by() == pytest.approx((0.6, 0.2, 0.2))
    assert compared.results[1].off_by() is None
