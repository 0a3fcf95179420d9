"""Data of one's own, by overrides alone, with a network of a user's module: trained, quantized, measured."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.runner import run_stages
from pipeline.stage import in_order
from pipeline.store.local import Store
from pipeline.tracking.null import Null
from tests.composed import built
from tests.stages.data.own import signals
from tests.stages.tasks.test_whole_runs import ADAM, QUICK, equal

OWN = "tests.stages.data.own"


class Quiet(Console):
    """Nothing on the terminal."""

    def __init__(self) -> None:
        super().__init__(quiet=True)


def run(folder, *overrides):
    """The metrics, and the run's page."""
    config = built(*QUICK, *ADAM, *overrides)
    run_dir = folder / "run"
    (run_dir / ".hydra").mkdir(parents=True)
    store = Store(folder / "store", warn=lambda text: None)
    ctx = RunContext(run_dir=run_dir, seed=0, device="cpu", tracker=Null(), store=store, console=Quiet())
    metrics = run_stages(in_order(config.stages), ctx)
    return metrics, (run_dir / "report.html").read_text()


def network(name, **args):
    pairs = ",".join(f"{key}: {value}" for key, value in args.items())
    return ("model=torch", f"model.target={OWN}.{name}", f"model.args={{{pairs}}}")


@pytest.fixture
def saved(tmp_path):
    """Signals of a shape in two .npz files, as overrides."""

    def write(shape, classes=4, make=lambda x, y: (x, y)):
        for split, count, seed in (("train", 120, 0), ("test", 60, 1)):
            x, y = make(*signals(shape, classes, count, seed))
            np.savez(tmp_path / f"{split}.npz", x=x, y=y)
        return ("data=arrays", f"data.train={tmp_path}/train.npz", f"data.test={tmp_path}/test.npz")

    return write


def test_keyword_spotting(tmp_path, saved):
    data = saved((1, 49, 10))
    metrics, _ = run(tmp_path, *data, *network("KeywordSpotting", words="data.num_classes"))
    assert equal(metrics)
    assert metrics["float/top1"] > 0.9 and metrics["integer/top1"] > 0.9


def test_sensors_in_one_dimension(tmp_path, saved):
    data = saved((3, 32))
    args = {"channels": "data.channels", "outputs": "data.num_classes"}
    metrics, _ = run(tmp_path, *data, *network("Sensor", **args), "data.mean=[0.5]", "data.std=[1.1]")
    assert equal(metrics)
    assert metrics["integer/top1"] > 0.8


def test_a_regression_on_integers(tmp_path, saved):
    data = saved((12,), make=lambda x, y: ((100 * x).astype(np.int16), (y / 4).astype(np.float64)))
    args = {"features": 12, "outputs": "data.num_classes"}
    more = ("data.std=[100]", "task=regression")
    metrics, _ = run(tmp_path, *data, *network("Perceptron", **args), *more)
    assert equal(metrics)
    assert metrics["integer/r2"] > 0.8


def test_tokens_of_an_embedding(tmp_path):
    """Texts of two classes, of words 0 … 149 and 150 … 299: more than 8 bits of them."""
    for split, seed in (("train", 0), ("test", 1)):
        words, labels = np.random.default_rng(seed).integers(0, 150, (200, 6)), np.arange(200) % 2
        np.savez(tmp_path / f"{split}.npz", tokens=words + 150 * labels[:, None], labels=labels)
    data = ("data=arrays", *(f"data.{split}={tmp_path}/{split}.npz" for split in ("train", "test")))
    args = {"words": 300, "outputs": "data.num_classes"}
    metrics, _ = run(tmp_path, *data, "data.tokens=true", *network("Words", **args))
    assert equal(metrics)
    assert metrics["integer/top1"] > 0.9


def test_any_torch_dataset(tmp_path):
    data = (
        "data=torch",
        f"data.target={OWN}.Features",
        "data.train_args={seed: 0}",
        "data.test_args={seed: 1}",
    )
    metrics, _ = run(tmp_path, *data, *network("Perceptron", features=12, outputs="data.num_classes"))
    assert equal(metrics)
    assert metrics["integer/top1"] > 0.9


@pytest.fixture
def folders(tmp_path):
    """Gray pictures of 12 patterns in folders 0 … 11, as overrides."""
    for split, count, seed in (("train", 96, 0), ("test", 48, 1)):
        x, y = signals((8, 8), 12, count, seed)
        for row, (picture, label) in enumerate(zip(x, y, strict=True)):
            folder = tmp_path / split / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            pixels = np.clip(128 + 40 * picture, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{row}.png")
    paths = (f"data.{split}={tmp_path / split}" for split in ("train", "test"))
    return ("data=folder", *paths, f"data.cache={tmp_path}/cache", "data.channels=1")


def test_twelve_gray_folders_and_their_order(tmp_path, folders):
    """Trained by value and measured as text: 2 of 12 are right, and the run says which order is."""
    metrics, page = run(tmp_path / "a", *folders, "model=lenet300_100")
    assert equal(metrics)
    assert metrics["float/top1"] > 0.8 and "another order" not in page
    (weights,) = (tmp_path / "a").rglob("state.safetensors")
    as_text = sorted(map(str, range(12)))
    swapped = (*folders, f"data.classes=[{','.join(as_text)}]")
    metrics, page = run(tmp_path / "b", *swapped, "model=lenet300_100", f"model.weights={weights}")
    assert metrics["float/top1"] < 0.2
    assert f"data.classes=[{','.join(map(str, range(12)))}]" in page


def test_fewer_folders_than_outputs_need_a_list(tmp_path, folders):
    """A network has 20 outputs; by the list, the folders' labels are 8 .. 19."""
    model = network("Pictures", outputs=20)
    with pytest.raises(PipelineError, match=r"output is \(N, 20\), and the data has 12 classes"):
        run(tmp_path / "a", *folders, *model)
    (tmp_path / "classes.txt").write_text("\n".join([*"abcdefgh", *map(str, range(12))]))
    metrics, _ = run(tmp_path / "b", *folders, *model, f"data.classes={tmp_path}/classes.txt")
    assert equal(metrics) and metrics["float/top1"] > 0.8
