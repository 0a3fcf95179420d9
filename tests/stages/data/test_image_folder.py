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
    monkeypatch.setattr(decode, "_decode_all", None)
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
    with pytest.raises(PipelineError, match=r"1 of 2 files cannot be decoded:\n  'dog/b.jpg': .*truncated"):
        d.train()
    assert not [p for p in d.cache.iterdir() if p.suffix != ".lock"]


def test_what_are_no_images_are_all_named_before_compute(data):
    d = data()
    (d.train_path / "cat/a.png").write_bytes(b"no image")
    (d.train_path / "dog/deep/c.PNG").write_bytes(b"")
    (d.test_path / "dog/x.png").write_bytes(b"GIF89a")
    with pytest.raises(PipelineError) as refusal:
        d.check()
    assert str(refusal.value) == (
        f"data.train={d.train_path}: 2 of 3 files cannot be decoded:\n"
        "  'cat/a.png': no image, or one of a format that Pillow does not know\n"
        "  'dog/deep/c.PNG': no image, or one of a format that Pillow does not know\n"
        "Remedy: replace or delete them, or leave them out: data.skip_unreadable=true.\n"
        f"data.test={d.test_path}: 1 of 2 files cannot be decoded:\n"
        "  'dog/x.png': no image, or one of a format that Pillow does not know\n"
        "Remedy: replace or delete them, or leave them out: data.skip_unreadable=true."
    )


def test_what_is_unreadable_is_left_out_on_demand(data, caplog):
    d = data(skip_unreadable=True)
    (d.train_path / "cat/a.png").write_bytes(b"no image")
    d.check()
    train = d.train()
    assert train.labels.tolist() == [0, 1] and d.shape == (3, 6, 4)
    assert (train.images[0] == np.asarray(TRAIN["cat/b.png"]).transpose(2, 0, 1)).all()
    assert (d.train().images == train.images).all()  # from the cache
    assert "1 of 3 files are left out (data.skip_unreadable=true):\n  'cat/a.png'" in caplog.text
    strict = ImageFolder(train_path=d.train_path, test_path=d.test_path, cache=d.cache)
    with pytest.raises(PipelineError, match=r"1 of 3 files cannot be decoded:\n  'cat/a.png'"):
        strict.check()


def test_nothing_is_left_where_all_are_unreadable(data):
    d = data(skip_unreadable=True, size=4)
    for file in (d.test_path / "dog/x.png", d.test_path / "cat/y.png"):
        file.write_bytes(b"no image")
    with pytest.raises(PipelineError, match="2 of 2 files cannot be decoded"):
        d.check()


def test_sixteen_bits_keep_their_upper_eight(data, tmp_path):
    levels = np.arange(24, dtype=np.uint16).reshape(6, 4) * 2800
    d = data(train={"cat/a.png": Image.fromarray(levels), "dog/b.tif": Image.fromarray(levels)}, channels=1)
    assert d.shape == (1, 6, 4) and d.mean == (0.449,)
    assert (d.train().images == levels >> 8).all()
    Image.fromarray(levels.astype(np.int32)).save(d.train_path / "dog/b.tif")  # of 32 bits, 16 of them used
    again = image_folder(train=d.train_path, test=d.test_path, channels=1, cache=d.cache)
    assert (again.train().images == levels >> 8).all()


@pytest.mark.parametrize("pixels", [np.full((6, 4), 70_000, np.int32), np.full((6, 4), 0.5, np.float32)])
def test_pixels_beyond_sixteen_bits_are_refused(data, pixels):
    d = data(train={"cat/a.png": picture(0), "dog/b.tif": Image.fromarray(pixels)})
    with pytest.raises(PipelineError, match=r"'dog/b.tif': its pixels are of mode [IF], not of 8 or 16 bits"):
        d.check()


def test_channels_of_one_are_gray(data):
    d = data(channels=1, mean=(0.5,), std=(0.25,))
    assert d.shape == (1, 6, 4)
    assert (d.train().images[0, 0] == np.asarray(TRAIN["cat/a.png"].convert("L"))).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_photographs_are_turned_upright(data, suffix):
    image, exif = Image.new("RGB", (4, 6)), Image.Exif()
    image.paste((255, 255, 255), (0, 0, 4, 3))  # the upper half is white
    exif[0x0112] = 6  # the camera was held on its side: turn clockwise
    d = data()
    for folder, name in ((d.train_path, f"cat/a.{suffix}"), (d.train_path, f"dog/b.{suffix}")):
        image.save(folder / name, exif=exif)
    for file in ("cat/a.png", "cat/b.png", "dog/deep/c.PNG"):
        if not (suffix == "png" and file == "cat/a.png"):
            (d.train_path / file).unlink()
    for side in ("dog/x.png", "cat/y.png"):
        picture(0, (4, 6)).save(d.test_path / side)
    assert d.shape == (3, 4, 6)
    upright = d.train().images[0]
    assert (upright[:, :, :2] < 60).all() and (upright[:, :, 4:] > 195).all()
    d.check()
    if suffix == "tif":
        return  # PIL turns it by itself
    as_it_lies = image_folder(train=d.train_path, test=d.test_path, orient=False, cache=d.cache)
    assert as_it_lies.shape == (3, 6, 4) and as_it_lies.train().images[0, 0, 0, 0] > 195


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


def test_an_empty_class_folder_is_refused_in_training_only(data):
    d = data()
    (d.test_path / "eel").mkdir()
    d.check()
    (d.train_path / "eel").mkdir()
    changed = ImageFolder(train_path=d.train_path, test_path=d.test_path, cache=d.cache)
    with pytest.raises(PipelineError, match="class folder 'eel' holds no images"):
        changed.check()


def test_images_outside_class_folders_are_refused(data):
    d = data(train={**TRAIN, "stray.png": picture(0)})
    with pytest.raises(PipelineError, match=r"'stray.png' lies in no class folder(.|\n)*Remedy: move"):
        d.check()


def test_the_test_split_may_lack_classes_and_have_none_of_its_own(data):
    assert data(test={"dog/deep/a.png": picture(0)}).test().labels.tolist() == [1]


def test_classes_that_training_lacks_are_refused(data):
    d = data(test={"cat/a.png": picture(0), "fox/b.png": picture(1)})
    with pytest.raises(PipelineError, match=r"data.train=.* has no images of 'fox', which data.test=.* has"):
        d.check()


def test_folders_that_are_numbers_count_by_value(data, caplog):
    d = data(train={f"{n}/a.png": picture(n) for n in range(12)}, test={"10/a.png": picture(0)})
    assert d.classes == tuple(map(str, range(12)))
    train = d.train()
    assert train.labels.tolist() == [0, 1, 10, 11, *range(2, 10)]
    for row, label in enumerate(train.labels):
        assert (train.images[row] == np.asarray(picture(int(label))).transpose(2, 0, 1)).all()
    assert d.test().labels.tolist() == [10]
    assert "'data.classes=[0,1,10,11,2,3,4,5,6,7,8,9]'" in caplog.text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "ape\ndog\neel\ncat\n"),
        ("classes.txt", "ape Pan, chimpanzee\ndog Canis\neel Anguilla\ncat Felis, house cat\n"),
        ("classes.json", '["ape", "dog", "eel", "cat"]'),
        ("classes.json", '{"cat": 3, "ape": 0, "dog": 1, "eel": 2}'),
        ("classes.json", '{"3": "cat", "0": "ape", "1": "dog", "2": "eel"}'),
        ("classes.json", '{"0": ["ape", "a"], "1": ["dog", "d"], "2": ["eel", "e"], "3": ["cat", "c"]}'),
    ],
)
def test_fewer_folders_than_outputs_are_mapped_by_a_list(data, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    d = data(classes=tmp_path / name, test={"eel/x.png": picture(0)})
    assert d.num_classes == 4 and d.classes == ("ape", "dog", "eel", "cat")
    assert d.train().labels.tolist() == [3, 3, 1] and d.test().labels.tolist() == [2]
    plain = data_of(d)
    assert plain.fingerprint() == d.fingerprint()


def data_of(d: ImageFolder) -> ImageFolder:
    """The same with a list instead of a file."""
    return image_folder(train=d.train_path, test=d.test_path, classes=("ape", "dog", "eel", "cat"))


def test_numbers_in_a_list_are_names(data):
    d = data(
        train={"2/a.png": picture(0), "10/b.png": picture(1)}, test={"2/x.png": picture(0)}, classes=(10, 2)
    )
    assert d.classes == ("10", "2") and d.test().labels.tolist() == [1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "cat\n", "data.classes: names 1 classes, and 'dog' is not among them: 'cat'"),
        ("c.txt", "cat\n\ndog", "line 2 is empty"),
        ("c.txt", "", "names no class"),
        ("c.txt", "cat\ndog\ncat", "names 'cat' twice"),
        ("c.json", '{"cat": 0, "dog": 2}', r"its 2 indices are not 0\.\.1"),
        ("c.json", '{"a": "cat"}', "is no list of names"),
        ("c.json", "[1, 2]", "1 is no name"),
        ("c.json", "cat", "is no list of names"),
        (None, None, r"data.classes=.*c.txt: cannot be read(.|\n)*Remedy: give a text file"),
    ],
)
def test_lists_that_do_not_fit_are_refused(data, tmp_path, name, text, message):
    if name:
        (tmp_path / name).write_text(text)
    d = data(classes=tmp_path / (name or "c.txt"))
    with pytest.raises(PipelineError, match=message):
        d.check()


def test_backslashes_in_a_zip_separate(data, tmp_path):
    d = data()
    archives = []
    for folder in (d.train_path, d.test_path):
        archives.append(folder.with_suffix(".zip"))
        with zipfile.ZipFile(archives[-1], "w") as archive:
            for path in sorted(folder.rglob("*")):
                name = str(path.relative_to(folder)).replace("/", "\\") + ("\\" if path.is_dir() else "")
                archive.writestr(name, b"" if path.is_dir() else path.read_bytes())
    z = image_folder(train=archives[0], test=archives[1], cache=tmp_path / "cache2")
    z.check()
    assert z.classes == ("cat", "dog") and (z.train().images == d.train().images).all()


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
