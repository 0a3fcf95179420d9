from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from stages.data import mnist
from stages.data.mnist import FILES, Mnist

SHARED = Path(__file__).parents[4] / "shared" / "data" / "mnist"


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def files(count: int = 3) -> dict[str, bytes]:
    """The four files, `count` samples a split."""
    images = np.arange(count * 784, dtype=np.int64).reshape(count, 28, 28) % 251
    labels = np.arange(count) % 10
    return {name: idx((images if "images" in name else labels).astype(np.uint8)) for name in FILES}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, content in files().items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_plain_and_zipped_files_read_the_same(root):
    plain = Mnist(root=root).train()
    for name in FILES:
        (root / f"{name}.gz").write_bytes(gzip.compress((root / name).read_bytes()))
        (root / name).unlink()
    zipped = Mnist(root=root).train()
    assert plain.images.shape == (3, 1, 28, 28)
    assert (plain.images == zipped.images).all() and plain.images[2, 0, 27, 27] == (3 * 784 - 1) % 251
    assert plain.labels.tolist() == zipped.labels.tolist() == [0, 1, 2]


def test_the_fingerprint_follows_the_content(root):
    before = Mnist(root=root).fingerprint()
    name = "t10k-labels-idx1-ubyte"
    (root / name).write_bytes((root / name).read_bytes()[:-1] + b"\7")
    assert Mnist(root=root).fingerprint() != before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>not found</html>", "its magic number is 0x3c68746d, not 0x00000803"),
        (b"\0\0", "unpack requires"),
        (
            idx(np.zeros((2, 28, 28), np.uint8))[:-1],
            r"1567 bytes of elements where its header says \[2, 28, 28\]",
        ),
    ],
)
def test_a_damaged_file_is_named(root, content, reason):
    (root / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(PipelineError, match=rf"train-images-idx3-ubyte is not a readable IDX.*{reason}"):
        Mnist(root=root).train()


def test_check_finds_a_wrong_header_without_reading_on(root):
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros((1, 2), np.uint8)))
    with pytest.raises(PipelineError, match=r"0x00000802, not 0x00000801(.|\n)*Remedy: delete it"):
        Mnist(root=root).check()


def test_a_truncated_gz_is_named(root):
    name = "train-labels-idx1-ubyte"
    (root / name).unlink()
    (root / f"{name}.gz").write_bytes(gzip.compress(files()[name])[:-9])
    with pytest.raises(PipelineError, match=f"{name}.gz is not a readable IDX"):
        Mnist(root=root).train()


def test_counts_must_agree(root):
    (root / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(2, np.uint8)))
    with pytest.raises(PipelineError, match=r"has 3 images, .* 2 labels"):
        Mnist(root=root).train()


def test_missing_files_come_from_the_mirror(server, tmp_path, monkeypatch):
    url, folder = server
    served = {f"{name}.gz": gzip.compress(content) for name, content in files().items()}
    for name, content in served.items():
        (folder / name).write_bytes(content)
    hashes = {name: hashlib.sha256(served[f"{name}.gz"]).hexdigest() for name in FILES}
    monkeypatch.setattr(mnist, "FILES", hashes)
    data = Mnist(root=tmp_path / "root", mirror=url)
    data.check()
    assert sorted(p.name for p in (tmp_path / "root").iterdir()) == sorted(served)
    assert data.test().labels.tolist() == [0, 1, 2]


def test_another_hash_is_refused(server, tmp_path):
    url, folder = server
    for name, content in files().items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    with pytest.raises(
        PipelineError, match=r"has another sha256 than 440fcabf(.|\n)*Remedy: put the file into"
    ):
        Mnist(root=tmp_path / "root", mirror=url).check()
    assert list((tmp_path / "root").iterdir()) == []


def test_an_absent_file_is_refused_with_the_remedy(server, tmp_path):
    url, _ = server
    with pytest.raises(PipelineError, match=r"the server answered 404 (.|\n)*data.mirror=https"):
        Mnist(root=tmp_path / "root", mirror=url).check()


def test_the_real_files():
    if not SHARED.is_dir():
        pytest.skip(f"the real MNIST is not in {SHARED.name}")
    data = Mnist(root=SHARED)
    data.check()
    train, test = data.train(), data.test()
    assert len(train) == 60_000 and len(test) == 10_000
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = train.images / np.float32(255)
    assert data.mean == pytest.approx([pixels.mean()], abs=5e-4)
    assert data.std == pytest.approx([pixels.std()], abs=5e-4)
