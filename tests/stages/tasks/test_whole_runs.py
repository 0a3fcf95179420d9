"""Networks of every task, by overrides alone: trained, quantized, measured by the task's own figures."""

import json

import pytest

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.runner import run_stages
from pipeline.stage import in_order
from pipeline.store.local import Store
from pipeline.tracking.null import Null
from tests.composed import built

QUICK = ("tracking=none", "threads=1", "stages.speed=null", "evaluate.parity_samples=32")
ADAM = (
    "training.float.epochs=20",
    "training.float.optimizer=adamw",
    "training.float.learning_rate=0.02",
)
FINETUNED = ("training=qat_finetune", "training.finetune.recipe.epochs=1")
HERE = "tests.stages.tasks.examples"


class Shown(Console):
    """Keeps the closing table."""

    def __init__(self):
        super().__init__(quiet=True)
        self.rows = {}

    def table(self, title, columns, rows):
        self.rows = {name: cells for name, *cells in rows}


def run(folder, data, model, *overrides):
    """The metrics, the closing table by row, and the run's folder."""
    config = built(
        *QUICK, f"data._target_={HERE}.{data}", f"model._target_={HERE}.{model}", *ADAM, *overrides
    )
    console, run_dir = Shown(), folder / "run"
    run_dir.mkdir()
    (run_dir / ".hydra").mkdir()
    ctx = RunContext(
        run_dir=run_dir,
        seed=0,
        device="cpu",
        tracker=Null(),
        store=Store(folder / "store", warn=lambda text: None),
        console=console,
    )
    stages = in_order(config.stages)
    return run_stages(stages, ctx), console.rows, run_dir


def equal(metrics):
    return (metrics["integer/agreement"], metrics["parity/max_off_by"]) == (1.0, 0.0)


@pytest.mark.parametrize("training", [(), FINETUNED], ids=["post_training", "qat_finetune"])
def test_a_regression(tmp_path, training):
    metrics, rows, run_dir = run(tmp_path, "Brightness", "Perceptron", "task=regression", *training)
    assert equal(metrics)
    assert metrics["integer/rmse"] == metrics["simulated/rmse"] < 0.5
    assert metrics["float/r2"] > 0.9 and metrics["integer/mae"] < metrics["integer/rmse"]
    assert metrics["parity/backend_same_output"] == 1.0
    assert metrics["rounding/float/rmse"] > 0.0
    assert not [name for name in metrics if "top1" in name]
    assert list(rows)[1:6] == ["RMSE", "change", "MAE", "R²", "output as simulated"]
    assert float(rows["RMSE"][2]) == pytest.approx(metrics["integer/rmse"], rel=1e-3)
    page = (run_dir / "report.html").read_text()
    assert "<th>same output</th><th>RMSE</th>" in page and "top-1" not in page
    assert json.loads((run_dir / "metrics.json").read_text())["integer/rmse"] == metrics["integer/rmse"]
    if training:
        assert 0.0 < metrics["finetune/rmse"] < 2.0
        assert 0.0 < metrics["finetune/held_out_rmse"] < 1.0
    assert metrics["train/rmse"] > 0.0


@pytest.mark.parametrize("training", [(), FINETUNED], ids=["post_training", "qat_finetune"])
def test_a_binary_classifier_with_one_logit(tmp_path, training):
    metrics, rows, _ = run(tmp_path, "Brighter", "Perceptron", "task=binary", *training)
    assert equal(metrics)
    assert metrics["float/accuracy"] > 0.9 and metrics["integer/accuracy"] > 0.9
    assert metrics["integer/auroc"] > 0.95
    assert list(rows)[1:5] == ["accuracy", "change, points", "AUROC", "decision as simulated"]


def test_labels_of_several_kinds_at_once(tmp_path):
    metrics, rows, run_dir = run(tmp_path, "Quarters", "Perceptron", "task=multilabel")
    assert equal(metrics)
    assert metrics["integer/macro_f1"] > 0.85 and metrics["integer/mean_average_precision"] > 0.9
    assert "all labels right" in rows
    assert "What this task decides is not one class a sample." in (run_dir / "report.html").read_text()


@pytest.mark.parametrize("training", [(), FINETUNED], ids=["post_training", "qat_finetune"])
def test_a_segmentation(tmp_path, training):
    metrics, rows, _ = run(tmp_path, "Bright", "Pixelwise", "task=segmentation", *training)
    assert equal(metrics)
    assert metrics["float/miou"] > 0.7 and metrics["integer/miou"] > 0.6
    assert metrics["integer/pixel_accuracy"] > 0.8
    assert list(rows)[1:5] == ["mIoU", "change, points", "pixel accuracy", "map as simulated"]


def test_an_embedding(tmp_path):
    metrics, rows, _ = run(tmp_path, "Brightest", "Perceptron", "task=embedding", "+model.outputs=8")
    assert equal(metrics)
    assert metrics["integer/cosine"] > 0.99 and metrics["integer/recall_at_1"] > 0.6
    assert rows["cosine to float"][0] == "–" and rows["change"] == ["–"] * 3


def test_distillation_and_sensitivity_know_the_task(tmp_path):
    taught = ("training.finetune.distillation.weight=0.5", "mixed_precision=greedy")
    metrics, _, run_dir = run(tmp_path, "Brightness", "Perceptron", "task=regression", *FINETUNED, *taught)
    assert equal(metrics)
    assert (run_dir / "sensitivity.csv").is_file() and metrics["mixed_precision/divergence"] > 0.0


def test_a_backend_that_rounds_otherwise_promises_no_equal_outputs(tmp_path):
    off = ("backend=onednn", "convert.requantize=fixed_point")
    metrics, *_ = run(tmp_path, "Brightness", "Perceptron", "task=regression", *off)
    assert 0.0 < metrics["integer/agreement"] < 1.0  # and the run's contract holds


@pytest.mark.parametrize(
    ("data", "model", "overrides", "reason"),
    [
        (
            "Brighter",
            "Perceptron",
            ("+model.outputs=1",),
            r"task=classification: the network's output is \(N, 1\), and the largest of one output is always "
            r"class 0\. Remedy: task=binary, or a network with an output for each of the 2 classes",
        ),
        (
            "Brightest",
            "Perceptron",
            ("+model.outputs=3",),
            r"output is \(N, 3\), and the data has 4 classes\. Remedy: a network with 4 outputs, or data",
        ),
        (
            "Bright",
            "Pixelwise",
            (),
            r"output is \(N, 3, 8, 8\), one map a class\. Remedy: task=segmentation, or pool it to \(N, 3\)",
        ),
        (
            "Brightness",
            "Perceptron",
            (),
            r"labels are float32 \(128, 2\), and classes are integers \(N,\)\. Remedy: task=regression",
        ),
        (
            "Brightest",
            "Perceptron",
            ("task=binary",),
            r"one logit tells two classes apart, and the data has 4\. Remedy: task=classification",
        ),
        (
            "Brighter",
            "Perceptron",
            ("task=binary", "+model.outputs=2"),
            r"output is \(N, 2\), and one logit, \(N, 1\), is taken\. Remedy: task=classification",
        ),
        (
            "Brightest",
            "Perceptron",
            ("task=regression",),
            r"output is \(N, 4\), 4 a sample, and labels are int64 \(128,\), 1 a sample\. Remedy: a network",
        ),
        (
            "Brightest",
            "Perceptron",
            ("task=multilabel",),
            r"labels are int64 \(128,\), and 0 or 1 for each label, \(N, labels\), is taken\. Remedy: "
            r"task=classification",
        ),
        (
            "Brightest",
            "Perceptron",
            ("task=segmentation",),
            r"output is \(N, 4\), and a map a class, \(N, 4, H, W\), is taken\. Remedy: task=classification",
        ),
        (
            "Brightest",
            "Pixelwise",
            ("task=embedding",),
            r"output is \(N, 4, 8, 8\), and a vector a sample, \(N, width\) of at least 2, is taken",
        ),
        (
            "Brightness",
            "Perceptron",
            ("task=embedding",),
            r"training needs classes, integers \(N,\), and labels are float32 \(512, 2\)\. Remedy: "
            r"model\.weights=PATH",
        ),
    ],
)
def test_what_contradicts_the_task_is_refused_before_anything_is_computed(
    tmp_path, data, model, overrides, reason
):
    with pytest.raises(PipelineError, match=reason):
        run(tmp_path, data, model, *overrides)
    assert not list((tmp_path / "store").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (
            ("task=regression", "training.float.label_smoothing=0.1"),
            r"training\.float\.label_smoothing=0\.1: task=regression has no labels to smooth\. Remedy",
        ),
        (
            ("task=segmentation", "training.float.augment=crop_flip"),
            r"training\.float\.augment=crop_flip: moves images, and not the maps .*Remedy: "
            r"training\.float\.augment=none",
        ),
        (
            ("task=segmentation", "training=qat_finetune", "training.finetune.recipe.augment=crop_flip"),
            r"training\.finetune\.recipe\.augment=crop_flip: moves images",
        ),
    ],
)
def test_recipes_that_contradict_the_task_are_refused(overrides, reason):
    with pytest.raises(PipelineError, match=reason):
        built(*overrides)
