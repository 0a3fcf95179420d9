"""What users complain of in public about their own images: whole runs by overrides, the right accuracy."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from pipeline.console import Console
from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.runner import run_stages
from pipeline.stage import in_order
from pipeline.store.local import Store
from pipeline.tracking.null import Null
from tests.composed import built

CLASSES = 12
QUICK = (
    *("tracking=none", "threads=1", "stages.speed=null", "evaluate.parity_samples=24"),
    *("data=folder", "model=torch", "calibration.samples=24"),
    *("data.mean=[0,0,0]", "data.std=[1,1,1]"),
)


class Colour(nn.Module):
    """Tells classes by an image's mean colour: the nearest of `colours` has the largest logit."""

    def __init__(self, outputs=CLASSES):
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(3, outputs)

    def forward(self, x):
        return self.fc(self.pool(x).flatten(1))


class Fewer(Colour):
    """A network of five classes."""

    def __init__(self):
        super().__init__(5)


def colours(count=CLASSES):
    """(count, 3): each channel dark, half or light."""
    digits = torch.arange(count)[:, None] // torch.tensor([1, 3, 9]) % 3
    return (digits + 0.5) / 3


def weights(folder, outputs=CLASSES):
    """The file of what a training on integer labels would have learned."""
    centres = colours(outputs)
    state = {"fc.weight": 2 * centres, "fc.bias": -centres.square().sum(1)}
    save_file(state, folder / "w.safetensors")
    return folder / "w.safetensors"


def picture(label, rng, size=8):
    """The colour of the class, and noise."""
    pixels = rng.uniform(-4, 4, (size, size, 3)) + 255 * colours()[label].numpy()
    return Image.fromarray(pixels.round().astype(np.uint8))


def write(root, split, each, names, make):
    rng = np.random.default_rng(len(split))
    for label, name in enumerate(names):
        for i in range(each):
            path = root / split / str(name) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            make(label, rng).save(path)
    return f"data.{split}={root / split}"


def folders(root, make=picture, names=range(CLASSES)):
    """Overrides that name folders of the classes, written below `root`."""
    return [write(root, "train", 4, names, make), write(root, "test", 3, names, make)]


def run(folder, model, path, *overrides):
    """The metrics of a run on the network of a class of this file."""
    target = f"model.target={__name__}.{model}"
    config = built(*QUICK, target, f"model.weights={path}", f"data.cache={folder}/cache", *overrides)
    run_dir = folder / "run"
    (run_dir / ".hydra").mkdir(parents=True)
    ctx = RunContext(
        run_dir=run_dir,
        seed=0,
        device="cpu",
        tracker=Null(),
        store=Store(folder / "store", warn=lambda text: None),
        console=Console(quiet=True),
    )
    return run_stages(in_order(config.stages), ctx)


def accuracies(metrics):
    return {form: metrics[f"{form}/top1"] for form in ("float", "simulated", "integer")}


def test_folders_that_are_numbers_are_the_integer_labels_of_training(tmp_path):
    metrics = run(tmp_path, "Colour", weights(tmp_path), *folders(tmp_path))
    assert accuracies(metrics) == {"float": 1.0, "simulated": 1.0, "integer": 1.0}
    assert (metrics["integer/agreement"], metrics["parity/max_off_by"]) == (1.0, 0.0)


def test_five_outputs_on_twelve_folders_are_refused_before_compute(tmp_path):
    with pytest.raises(PipelineError, match=r"output is \(N, 5\), and the data has 12 classes"):
        run(tmp_path, "Fewer", weights(tmp_path, 5), *folders(tmp_path))
    assert not list((tmp_path / "store").rglob("*.safetensors"))


def test_a_networks_own_preprocessing_is_its_evaluations(tmp_path):
    """The subject lies in the middle: Resize(36) and CenterCrop(28) see it alone, scaling its frame too."""

    def framed(label, rng):
        around = Image.new("RGB", (36, 36), (255 * (label % 2),) * 3)
        around.paste(picture(label, rng, 28), (4, 4))
        return around

    images, path = folders(tmp_path, framed), weights(tmp_path)
    scaled = run(tmp_path / "scaled", "Colour", path, *images, "data.size=28")
    trained = run(tmp_path / "trained", "Colour", path, *images, "data.resize=36", "data.crop=28")
    assert set(accuracies(trained).values()) == {1.0}
    assert scaled["float/top1"] < 0.5


def test_a_zip_with_backslashes_is_read(tmp_path):
    images = folders(tmp_path)
    for split in ("train", "test"):
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
            for file in sorted((tmp_path / split).rglob("*.png")):
                info = zipfile.ZipInfo("name")
                info.filename = str(file.relative_to(tmp_path)).replace("/", "\\")
                archive.writestr(info, file.read_bytes())
    images = [f"{image}.zip" for image in images]
    metrics = run(tmp_path, "Colour", weights(tmp_path), *images)
    assert set(accuracies(metrics).values()) == {1.0}


@pytest.mark.parametrize("name", ["epoch=3-val=0.2.safetensors", "a,b.safetensors"])
def test_a_quoted_name_of_weights_is_read(tmp_path, name):
    path = weights(tmp_path).rename(tmp_path / name)
    metrics = run(tmp_path, "Colour", f'"{path}"', *folders(tmp_path))
    assert metrics["integer/top1"] == 1.0
