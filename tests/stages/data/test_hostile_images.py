"""Images, folders and archives that say too much, or are no files. Refused before memory is taken."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from pipeline.errors import PipelineError
from stages.data.class_names import read_classes
from stages.data.image_folder import image_folder
from stages.data.listing import list_images
from stages.data.preprocess import Preprocessing
from tests.stages.data.hostile import MIB, little_memory, picture, png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(picture())
    return root


def decoded(root: Path, **options: object):
    options.setdefault("size", 8)
    return image_folder(train=root, test=root, cache=root.parent / "cache", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("archived", [False, True])
def test_an_image_that_says_too_many_pixels_is_not_decoded(folder, archived):
    (folder / "cat" / "bomb.png").write_bytes(png(10_000, 10_000))
    if archived:
        with zipfile.ZipFile(folder.parent / "a.zip", "w") as archive:
            for path in sorted(folder.rglob("*.png")):
                archive.write(path, path.relative_to(folder))
        folder = folder.parent / "a.zip"
    with little_memory(), pytest.raises(PipelineError) as error:
        decoded(folder).train()
    assert "cat/bomb.png" in str(error.value)
    assert "it has 10000×10000 pixels: must be at most data.max_pixels=89478485" in str(error.value)
    assert len(decoded(folder, skip_unreadable=True).train()) == 2


def test_beyond_pillows_own_limit_the_file_is_named_too(folder):
    (folder / "cat" / "bomb.png").write_bytes(png(60_000, 60_000))
    with little_memory(), pytest.raises(PipelineError, match=r"cat/bomb.png.*3600000000 pixels"):
        decoded(folder).train()


def test_what_an_image_is_scaled_to_on_the_way_is_bounded_too(folder):
    (folder / "cat" / "long.png").write_bytes(picture((8000, 1)))
    with little_memory(), pytest.raises(PipelineError, match=r"1792000×224 pixels after resize=224: must be"):
        decoded(folder, size=None, resize=224, crop=8).train()


def test_the_limit_is_a_setting():
    wide = Image.new("L", (20, 10))
    assert Preprocessing(channels=1, max_pixels=200).apply(wide).shape == (1, 10, 20)
    with pytest.raises(ValueError, match=r"20×10 pixels: must be at most data.max_pixels=199"):
        Preprocessing(channels=1, max_pixels=199).apply(wide)
    with pytest.raises(ValueError, match=r"max_pixels=0: must be 1 .. 178956970, Pillow's own limit"):
        Preprocessing(max_pixels=0)
    assert "max_pixels" not in repr(Preprocessing())  # decoded images stay valid


def test_a_tiff_is_not_decoded_for_its_size(folder):
    Image.new("1", (10_000, 10_000)).save(folder / "cat" / "0.tif", compression="group4")
    (folder / "cat" / "0.png").unlink()
    with little_memory(), pytest.raises(PipelineError, match=r"cat/0.tif.*10000×10000 pixels"):
        decoded(folder, size=None).train()


def test_a_member_larger_than_any_image_is_not_unpacked(folder):
    path = folder.parent / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0.png", picture())
        archive.writestr("dog/0.png", picture())
        archive.writestr("dog/1.bmp", bytes(64 * MIB))
    with little_memory(), pytest.raises(PipelineError, match=r"dog/1.bmp.* has 67,108,864 bytes: must have"):
        decoded(path, max_pixels=MIB).train()


def test_an_archive_that_says_far_more_than_it_holds_is_refused(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0.png", picture())
        archive.writestr("dog/0.bin", bytes(MIB))
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2")
    content[at + 24 : at + 28] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=r"say that they have 4.0 GiB, in an archive of 0.0 MiB") as error:
        list_images(path, "data.train")
    assert str(error.value).endswith("extract it, and give the folder: data.train=FOLDER.")


def test_what_is_no_file_is_named_and_never_opened(folder):
    os.mkfifo(folder / "cat" / "fifo.png")
    (folder / "cat" / "dangling.png").symlink_to("nowhere.png")
    (folder / "cat" / "itself.png").symlink_to("itself.png")
    (folder / "cat" / "zero.png").symlink_to("/dev/zero")
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as bound:
        bound.bind(f"{short}/s")
        (folder / "cat" / "socket.png").symlink_to(f"{short}/s")
        with pytest.raises(PipelineError) as error:
            decoded(folder).train()
        text = str(error.value)
        assert len(decoded(folder, skip_unreadable=True).train()) == 2
    for name, words in (
        ("fifo", "is a FIFO, not a regular file"),
        ("dangling", "No such file or directory"),
        ("itself", "symbolic links"),
        ("zero", "is a device, not a regular file"),
        ("socket", "is a socket, not a regular file"),
    ):
        assert any(f"cat/{name}.png" in line and words in line for line in text.splitlines()), text


def test_a_link_to_a_folder_is_followed_but_not_in_a_circle(folder):
    (folder / "bird").symlink_to(folder / "cat", target_is_directory=True)
    assert list_images(folder, "data.train").classes == ("bird", "cat", "dog")
    (folder / "dog" / "up").symlink_to(folder, target_is_directory=True)
    with pytest.raises(PipelineError, match=r"'.*dog/up' cannot be listed \(a link leads to a folder around"):
        list_images(folder, "data.train")


@pytest.mark.parametrize("name", ["classes.txt", "classes.json"])
def test_a_list_of_classes_is_a_file(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(PipelineError, match="is a FIFO, not a regular file"):
        read_classes(tmp_path / name)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(PipelineError, match="is no list of names"):
        read_classes(tmp_path / "deep.json")
