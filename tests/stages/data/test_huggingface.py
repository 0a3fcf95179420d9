"""The package is an extra: without it, a stand-in with the little of it that is used."""

from __future__ import annotations

import io
import os
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from stages.data.batches import batches
from stages.data.huggingface import huggingface


class Rows(list):
    """`datasets.Dataset`: rows, columns' names and features."""

    def __init__(self, rows, names=None) -> None:
        super().__init__(rows)
        self.column_names = list(rows[0])
        self.features = {column: SimpleNamespace() for column in self.column_names}
        if names:
            self.features["label"] = SimpleNamespace(names=names)


class StoredImages:
    """`datasets.Image`, a feature: decoded, unless told otherwise."""

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class ImageRows(Rows):
    """Rows whose images lie in files or as bytes, and are decoded when they are read."""

    def __init__(self, rows, decode: bool = True) -> None:
        super().__init__(rows)
        self.features["image"] = StoredImages(decode)

    def cast_column(self, column, feature):
        return ImageRows(list(self), feature.decode)

    def __getitem__(self, row):
        sample = super().__getitem__(row)
        if not self.features["image"].decode:
            return sample
        raise AssertionError("decoded before its size is known")


class Splits(dict):
    """`datasets.DatasetDict`."""


PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8))
IMAGES = Splits(
    train=Rows([{"image": PICTURE, "label": n} for n in (0, 1, 1)], names=["cat", "dog", "eel"]),
    test=Rows([{"image": PICTURE, "label": 1}], names=["cat", "dog", "eel"]),
)
TOKENS = Splits(
    train=Rows([{"input_ids": [101, 49_000, 102], "text": "a", "score": 0.5}] * 2),
    validation=Rows([{"input_ids": [101, 7, 102], "text": "b", "score": 1.5}]),
)


@pytest.fixture
def on_disk(monkeypatch):
    def put(found) -> None:
        def load(path):
            if isinstance(found, Exception):
                raise found
            return found

        module = ModuleType("datasets")
        module.DatasetDict, module.load_from_disk = Splits, load
        module.Image = StoredImages
        monkeypatch.setitem(sys.modules, "datasets", module)

    return put


def test_images_are_preprocessed_and_classes_named(on_disk):
    on_disk(IMAGES)
    d = huggingface(path="pets", resize=4, crop=(4, 3))
    d.check()
    assert (d.name, d.shape, d.classes, d.num_classes) == ("huggingface", (3, 4, 3), ("cat", "dog", "eel"), 3)
    assert d.train().labels.tolist() == [0, 1, 1] and len(d.test()) == 1
    assert d.train().images.dtype == np.uint8
    assert huggingface(path="pets", channels=1).shape == (1, 8, 6)


def stored(image: Image.Image) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def test_stored_images_are_read_by_their_header_before_they_are_decoded(on_disk, tmp_path):
    PICTURE.save(tmp_path / "a.png")
    rows = [stored(PICTURE), {"bytes": None, "path": str(tmp_path / "a.png")}]
    samples = [{"image": one, "label": n} for n, one in enumerate(rows)]
    on_disk(Splits(train=ImageRows(samples), test=ImageRows(samples[1:])))
    d = huggingface(path="pets")
    assert (d.train().images == np.asarray(PICTURE).transpose(2, 0, 1)).all()
    with pytest.raises(PipelineError, match=r"sample 0 .*6×8 pixels: must be at most data.max_pixels=47"):
        huggingface(path="pets", max_pixels=47).train()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({"bytes": None, "path": "FIFO"}, "is a FIFO, not a regular file"),
        ({"bytes": None, "path": "/nowhere.png"}, "No such file"),
        ({"bytes": b"no image", "path": None}, "cannot identify image file"),
        ({"bytes": bytes(2**21), "path": None}, "has 2,097,152 bytes: must have at most"),
    ],
)
def test_what_is_no_image_is_refused_with_its_sample(on_disk, tmp_path, image, said):
    os.mkfifo(tmp_path / "f")
    image = {key: str(tmp_path / "f") if value == "FIFO" else value for key, value in image.items()}
    samples = ImageRows([{"image": image, "label": 0}])
    on_disk(Splits(train=samples, test=samples))
    with pytest.raises(PipelineError, match=f"sample 0 (.|\n)*{said}"):
        huggingface(path="pets", max_pixels=1000).train()


def test_columns_and_splits_are_named(on_disk):
    on_disk(TOKENS)
    d = huggingface(path="mails", test="validation", labels="score")
    d.check()
    ((x, y),) = batches(d.train(), 2, d)
    assert x.tolist() == [[101, 49_000, 102]] * 2 and y.tolist() == [0.5, 0.5] and d.num_classes == 1
    assert d.test().labels.tolist() == [1.5]


@pytest.mark.parametrize(
    ("found", "settings", "message"),
    [
        (
            TOKENS,
            {"labels": "score"},
            r"has no split 'test'; valid: train, validation\.\nRemedy: data.train=SPLIT",
        ),
        (TOKENS, {"test": "validation"}, r"which column holds the labels is not clear; .*score, text"),
        (TOKENS, {"test": "validation", "labels": "scores"}, "no column 'scores'; did you mean 'score'"),
        (IMAGES["train"], {}, "data.path=x: is a single split"),
        (FileNotFoundError("nothing there"), {}, r"data.path=x: is no dataset on disk \(nothing there\)"),
    ],
)
def test_what_is_not_there_is_named(on_disk, found, settings, message):
    on_disk(found)
    with pytest.raises(PipelineError, match=message):
        huggingface(path="x", **settings).check()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        PipelineError, match=r"'datasets' is missing(.|\n)*quantization-pipeline\[huggingface\]"
    ):
        huggingface(path="x").check()
