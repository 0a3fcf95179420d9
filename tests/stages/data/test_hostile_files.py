"""Files that say that they hold more than they may, or are no files: refused before memory is taken."""

from __future__ import annotations

import gzip
import io
import os
import socket
import struct
import tarfile
import tempfile
import threading
import time
import tracemalloc
import zipfile
import zlib
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from stages.data import cifar10, download, mnist
from stages.data.array_files import ArrayFile
from stages.data.cifar10 import ARCHIVE, RECORD, Cifar10
from stages.data.class_names import read_classes
from stages.data.image_folder import image_folder
from stages.data.listing import list_images
from stages.data.mnist import Mnist
from stages.data.preprocess import Preprocessing

MIB = 2**20
LABELS = "train-labels-idx1-ubyte"
IMAGES = "train-images-idx3-ubyte"


@contextmanager
def little_memory(most: int = 32 * MIB):
    """What Python takes at a time within the block is at most `most` bytes."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MIB:.0f} MiB were taken"


def zeros(count: int, head: bytes = b"") -> bytes:
    """`head` and `count` zeros as a .gz, made in little memory."""
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(head)]
    parts += [packer.compress(bytes(MIB)) for _ in range(count // MIB)]
    return b"".join([*parts, packer.flush()])


def png(width: int, height: int) -> bytes:
    """A gray PNG's header and the end, which is all that a bomb needs to be opened."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def picture(size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 100, 50)).save(buffer, "PNG")
    return buffer.getvalue()


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


# IDX


def test_of_a_zipped_idx_no_more_is_unpacked_than_its_header_says(tmp_path):
    (tmp_path / f"{IMAGES}.gz").write_bytes(zeros(512 * MIB, struct.pack(">4I", 0x803, 3, 28, 28)))
    (tmp_path / LABELS).write_bytes(struct.pack(">2I", 0x801, 3) + bytes(3))
    with little_memory(), pytest.raises(PipelineError, match=r"more than 2352 bytes of elements where"):
        Mnist(root=tmp_path).train()


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ((2**31, 2**31, 2**31), r"images of \(2147483648, 2147483648\), expected \(28, 28\)"),
        ((2**32 - 1, 28, 28), r"4294967295 samples: must be 1 .. 1048576"),
        ((0, 28, 28), r"0 samples: must be 1 .. 1048576"),
        ((3, 28, 0), r"images of \(28, 0\), expected \(28, 28\)"),
    ],
)
def test_sizes_of_an_idx_are_checked_before_it_is_read(tmp_path, sizes, words):
    (tmp_path / IMAGES).write_bytes(struct.pack(">4I", 0x803, *sizes))
    (tmp_path / LABELS).write_bytes(struct.pack(">2I", 0x801, 3) + bytes(3))
    with pytest.raises(PipelineError, match=words):
        Mnist(root=tmp_path).train()


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    for name in mnist.FILES:
        with (tmp_path / name).open("wb") as stream:
            stream.truncate(2**40)
    with pytest.raises(PipelineError, match=r"has 1,099,511,627,776 bytes: must have at most"):
        Mnist(root=tmp_path).fingerprint()


# CIFAR-10's archive


def tar(member: tarfile.TarInfo, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(member, io.BytesIO(content) if content else None)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "nowhere", "data_batch_1.bin"])
def test_a_member_that_is_no_file_is_refused(tmp_path, kind, target):
    member = tarfile.TarInfo("data_batch_1.bin")
    member.type, member.linkname = kind, target
    (tmp_path / ARCHIVE).write_bytes(tar(member))
    with pytest.raises(PipelineError, match=r"'data_batch_1.bin' in it is a link, folder or device: must"):
        Cifar10(root=tmp_path).check()


def test_a_member_that_says_too_much_is_not_written(tmp_path):
    member = tarfile.TarInfo("x/data_batch_1.bin")
    member.size = 6 * 2**30
    (tmp_path / ARCHIVE).write_bytes(gzip.compress(member.tobuf()))
    with pytest.raises(PipelineError, match=r"has 6,442,450,944 bytes: must be a file of at most 30,730,000"):
        Cifar10(root=tmp_path).check()
    assert [path.name for path in tmp_path.iterdir()] == [ARCHIVE]


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_the_rest_of_the_archive_is_bounded_too(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(cifar10, "MAX_ARCHIVE", 8 * MIB)
    member = tarfile.TarInfo("beside")
    member.type, member.size = kind, 512 * MIB
    (tmp_path / ARCHIVE).write_bytes(zeros(512 * MIB, member.tobuf()))
    with little_memory(), pytest.raises(PipelineError, match=r"it unpacks to more than 8,388,608 bytes"):
        Cifar10(root=tmp_path).check()


def test_an_extracted_file_has_no_more_records_than_the_format(tmp_path):
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for name in cifar10.TRAIN_FILES + cifar10.TEST_FILES:
        with (tmp_path / "cifar-10-batches-bin" / name).open("wb") as stream:
            stream.truncate(10_001 * RECORD)
    with pytest.raises(PipelineError, match=r"has 30,733,073 bytes: must have at most 30,730,000"):
        Cifar10(root=tmp_path).test()


# image folders and archives


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


# arrays


def npy(shape: tuple[int, ...], kind: str = "<f4", content: bytes = b"") -> bytes:
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + content


@pytest.mark.parametrize("shape", [(2**40,), (2**62, 4), (2**31, 2**31, 2**31), (-1, 4), (-(2**62), -4)])
@pytest.mark.parametrize("kind", ["npy", "npz", "npz_deflated", "safetensors"])
def test_an_array_of_a_huge_shape_is_refused(tmp_path, kind, shape):
    path = tmp_path / f"x.{kind.partition('_')[0]}"
    if kind == "npy":
        path.write_bytes(npy(shape, content=bytes(64)))
    elif kind == "safetensors":
        header = f'{{"x": {{"dtype": "F32", "shape": {list(shape)}, "data_offsets": [0, 64]}}}}'.encode()
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    else:
        method = zipfile.ZIP_DEFLATED if kind.endswith("deflated") else zipfile.ZIP_STORED
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("x.npy", npy(shape, content=bytes(64)))
    with little_memory(), pytest.raises(PipelineError, match=rf"data.train={path}: cannot be read \("):
        file = ArrayFile(path, "data.train")
        file.read(file.keys()[0])


def test_an_array_does_not_reach_into_its_neighbour(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("a.npy", npy((64,), content=bytes(4)))
        archive.writestr("b.npy", npy((64,), content=b"\1" * 256))
    file = ArrayFile(tmp_path / "x.npz", "data.train")
    assert file.read("b").shape == (64,)
    with pytest.raises(PipelineError, match=r"'a.npy' is to be float32 \(64,\), in 132 bytes"):
        file.read("a")


def test_an_array_that_memory_does_not_hold_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(64 * MIB, np.uint8))
    monkeypatch.setattr(os, "sysconf", lambda _: 2**13)
    with little_memory(), pytest.raises(PipelineError, match=r"0.1 GiB to unpack, of 0.1 GiB of memory"):
        ArrayFile(tmp_path / "x.npz", "data.train").read("x")


def test_arrays_of_objects_are_never_loaded(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([{}, []], object))
    with pytest.raises(PipelineError, match="holds Python objects, which are never loaded"):
        ArrayFile(tmp_path / "x.npz", "data.train").read("x")


# downloads


@contextmanager
def serving(handle):
    """A server whose answers `handle` writes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            with suppress(OSError):  # the other side has had enough
                handle(self)

        def log_message(self, format, *args):
            """Nothing on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(url: str, tmp_path: Path) -> str:
    with pytest.raises(PipelineError) as error:
        download.download(tmp_path / "file.gz", (url,), "0" * 64)
    assert list(tmp_path.iterdir()) == []
    return str(error.value)


def test_a_server_that_says_too_much_is_not_read(tmp_path):
    def much(request):
        request.send_response(200)
        request.send_header("Content-Length", str(2**40))
        request.end_headers()
        request.wfile.write(b"x")

    with serving(much) as url:
        assert "the file there has 1,099,511,627,776 bytes, more than 268,435,456" in refusal(url, tmp_path)


def test_a_server_that_never_ends_is_left(tmp_path, monkeypatch):
    def endless(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(bytes(2**16))

    monkeypatch.setattr(download, "MAX_BYTES", MIB)
    with serving(endless) as url:
        assert "the server sends more than 1,048,576 bytes" in refusal(url, tmp_path)


def test_a_server_that_drips_is_left(tmp_path, monkeypatch):
    def drip(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b"x")
            time.sleep(0.05)

    monkeypatch.setattr(download, "TOTAL_SECONDS", 0.3)
    start = time.monotonic()
    with serving(drip) as url:
        assert "not done within 0.3 s" in refusal(url, tmp_path)
    assert time.monotonic() - start < 5


def test_a_header_that_is_no_python_is_refused(tmp_path):
    (tmp_path / "x.npy").write_bytes(npy((4,), content=bytes(16)).replace(b"(4,), }", b"(4,),  "))
    with pytest.raises(PipelineError, match=r"x.npy: cannot be read \("):
        ArrayFile(tmp_path / "x.npy", "data.train").read("")
