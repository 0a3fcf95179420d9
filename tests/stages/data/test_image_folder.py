from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from stages.data import decode
from stages.data.image_folder import ImageFolder, image_folder


def picture(seed: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> Image.Image:
    """Random pixels; `size` is height and width."""
    channels = () if mode == "L" else (3,)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, *channels), dtype=np.uint8)
    return Image.fromarray(pixels)


TRAIN = {"cat/b.png": picture(0), "cat/a.png": picture(1), "dog/deep/c.PNG": picture(2)}
TEST = {"dog/x.png": picture(3), "cat/y.png": picture(4)}


@pytest.fixture
def data(images, tmp_path):
    """A data set of TRAIN and TEST; other pictures and settings by keyword."""

    def build(train=None, test=None, **settings) -> ImageFolder:
        folders = images("train", train or TRAIN), images("test", test or TEST)
        return image_folder(train=folders[0], test=folders[1], cache=tmp_path / "cache", **settings)

    return build


def zipped(folder: Path, prefix: str = "") -> Path:
    file = folder.with_suffix(".zip")
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, prefix + path.relative_to(folder).as_posix())
    return file


def test_images_come_in_order_of_class_and_name(data):
    d = data()
    d.check()
    assert d.classes == ("cat", "dog") and d.num_classes == 2 and d.shape == (3, 6, 4)
    train = d.train()
    assert train.labels.tolist() == [0, 0, 1]
    for row, name in enumerate(["cat/a.png", "cat/b.png", "dog/deep/c.PNG"]):
        assert (train.images[row] == np.asarray(TRAIN[name]).transpose(2, 0, 1)).all()
    assert d.test().labels.tolist() == [0, 1]


@pytest.mark.parametrize("prefix", ["", "photos/"])
def test_a_zip_reads_as_its_folder_does_and_is_not_extracted(data, tmp_path, prefix):
    d = data()
    z = image_folder(
        train=zipped(d.train_path, prefix), test=zipped(d.test_path, prefix), cache=tmp_path / "cache2"
    )
    assert (z.train().images == d.train().images).all()
    assert (z.test().images == d.test().images).all()
    assert z.train().labels.tolist() == d.train().labels.tolist()
    assert not list((tmp_path / "cache2").rglob("*.png"))


def test_a_zip_is_known_by_its_content_alone(data, tmp_path):
    d = data()
    trains, tests = zipped(d.train_path), zipped(d.test_path)
    first = image_folder(train=trains, test=tests).fingerprint()
    moved = trains.rename(tmp_path / "elsewhere.zip")
    os.utime(moved, (1, 1))
    assert image_folder(train=moved, test=tests).fingerprint() == first


def test_an_archive_is_listed_once_and_again_where_it_has_changed(data, monkeypatch):
    d = data()
    trains, tests = zipped(d.train_path), zipped(d.test_path)
    first = image_folder(train=trains, test=tests).fingerprint()
    with monkeypatch.context() as patched:
        patched.setattr(zipfile, "ZipFile", None)
        assert image_folder(train=trains, test=tests).fingerprint() == first
    picture(9).save(d.train_path / "cat/a.png")
    zipped(d.train_path)
    assert image_folder(train=trains, test=tests).fingerprint() != first


def test_the_second_reading_decodes_nothing(data, monkeypatch):
    d = data()
    first = d.train().images
    monkeypatch.setattr(decode, "_decode", None)
    again = ImageFolder(train_path=d.train_path, test_path=d.test_path, cache=d.cache).train().images
    assert isinstance(again, np.memmap) and (again == first).all()


def test_a_changed_image_is_decoded_anew(data):
    d = data()
    before, images = d.fingerprint(), d.train().images.copy()
    picture(9).save(d.train_path / "cat/a.png")
    changed = ImageFolder(train_path=d.train_path, test_path=d.test_path, cache=d.cache)
    assert changed.fingerprint() != before
    assert (changed.train().images[0] != images[0]).any()
    assert (changed.train().images[1:] == images[1:]).all()


def test_a_damaged_cache_is_replaced(data):
    d = data()
    expected = d.train().images.copy()
    (file,) = d.cache.glob("*.npy")
    file.write_bytes(file.read_bytes()[:-5])
    assert (d.train().images == expected).all()


def test_grayscale_becomes_rgb(data):
    d = data(train={"cat/a.png": picture(0, mode="L"), "dog/b.png": picture(1)})
    gray = d.train().images[0]
    assert (gray == np.asarray(picture(0, mode="L"))).all()  # in all three channels


def test_size_scales_to_cover_and_crops_the_centre(data):
    flat = np.zeros((8, 16, 3), np.uint8)
    flat[:, 3:13] = 200  # the middle half, and what the filter sees beside it
    d = data(train={"cat/a.png": Image.fromarray(flat), "dog/b.png": picture(0, (30, 20))}, size=4)
    assert d.shape == (3, 4, 4)
    assert (d.train().images[0] == 200).all()
    assert d.test().images.shape == (2, 3, 4, 4)


def test_sizes_are_height_and_width(data):
    assert data(size=(2, 5)).train().images.shape == (3, 3, 2, 5)


def test_mixed_sizes_need_a_size(data):
    d = data(train={**TRAIN, "dog/z.png": picture(5, (5, 4))})
    with pytest.raises(PipelineError, match=r"'dog/z.png' has 5×4 pixels, .* 6×4\.\nRemedy: give data.size="):
        d.train()
    assert not list(d.cache.glob("*.npy"))


def test_test_images_of_another_size_are_refused(data):
    d = data(test={"cat/a.png": picture(0, (7, 7)), "dog/b.png": picture(0, (7, 7))})
    with pytest.raises(PipelineError, match=r"data.test=.*'cat/a.png' has 7×7 pixels"):
        d.test()


def test_a_truncated_jpeg_is_named(data):
    d = data(train={"cat/a.jpg": picture(0, (64, 64)), "dog/b.jpg": picture(1, (64, 64))})
    file = d.train_path / "dog/b.jpg"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(PipelineError, match=r"data.train=.*'dog/b.jpg' cannot be decoded: .*truncated"):
        d.train()
    assert not [p for p in d.cache.iterdir() if p.suffix != ".lock"]


def test_what_is_no_image_is_named_before_compute(data):
    d = data()
    (d.train_path / "cat/a.png").write_bytes(b"no image")
    with pytest.raises(PipelineError, match=r"'cat/a.png' cannot be decoded(.|\n)*Remedy: replace the file"):
        d.check()


def test_sixteen_bits_are_refused(data):
    deep = Image.fromarray(np.full((6, 4), 40_000, np.uint16))
    d = data(train={"cat/a.png": picture(0), "dog/b.png": deep})
    with pytest.raises(PipelineError, match="not of 8 bits a channel"):
        d.train()


def test_missing_paths_are_named_with_the_remedy(data, tmp_path):
    d = image_folder(train=tmp_path / "nowhere", test=tmp_path)
    for ask in (d.check, d.fingerprint, lambda: d.num_classes):
        with pytest.raises(
            PipelineError, match=r"data.train=.*nowhere: no such folder(.|\n)*Remedy: give data.train="
        ):
            ask()


def test_a_folder_without_images_is_refused(images, tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("none")
    with pytest.raises(PipelineError, match=r"data.train=.*: holds no images \(.bmp"):
        image_folder(train=tmp_path / "train", test=images("test", TEST)).check()


def test_an_empty_class_folder_is_refused(data):
    d = data()
    (d.train_path / "eel").mkdir()
    with pytest.raises(PipelineError, match="class folder 'eel' holds no images"):
        d.check()


def test_images_outside_class_folders_are_refused(data):
    d = data(train={**TRAIN, "stray.png": picture(0)})
    with pytest.raises(PipelineError, match=r"'stray.png' lies in no class folder(.|\n)*Remedy: move"):
        d.check()


def test_splits_must_have_the_same_classes(data):
    d = data(test={"cat/a.png": picture(0), "fox/b.png": picture(1)})
    with pytest.raises(
        PipelineError, match=r"differ in their class folders: 'dog', 'fox' are in one of them"
    ):
        d.check()


def test_a_file_that_is_no_zip_is_refused(images, tmp_path):
    (tmp_path / "train.zip").write_bytes(b"Rar!")
    with pytest.raises(PipelineError, match=r"data.train=.*train.zip: not a readable .zip"):
        image_folder(train=tmp_path / "train.zip", test=images("test", TEST)).check()


def test_hidden_files_are_passed_over(data):
    d = data(train={**TRAIN, ".thumbs/t.png": picture(0), "__MACOSX/cat/a.png": picture(0)})
    assert d.classes == ("cat", "dog") and len(d.train()) == 3


def test_settings_are_checked():
    with pytest.raises(ValueError, match="size=0: must be at least 1 pixel"):
        image_folder(train=Path("a"), test=Path("b"), size=0)
    with pytest.raises(ValueError, match=r"std=\[1.0\]: must be 3 numbers"):
        image_folder(train=Path("a"), test=Path("b"), std=(1.0,))


def test_a_full_disk_is_foreseen(data, monkeypatch):
    monkeypatch.setattr(decode.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(PipelineError, match=r"decoded images need .*\nRemedy: give a smaller data.size="):
        data().train()
