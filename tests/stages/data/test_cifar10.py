from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from stages.data import cifar10
from stages.data.cifar10 import ARCHIVE, FOLDER, RECORD, TEST_FILES, TRAIN_FILES, Cifar10

PER_FILE = 4


def records(file: int) -> np.ndarray:
    """Records of the file number `file`: label, then random pixels."""
    raw = np.random.default_rng(file).integers(0, 256, (PER_FILE, RECORD), dtype=np.uint8)
    raw[:, 0] = (np.arange(PER_FILE) + file) % 10
    return raw


def archive(names: tuple[str, ...] = TRAIN_FILES + TEST_FILES, folder: str = FOLDER) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for number, name in enumerate(names):
            content = records(number).tobytes()
            info = tarfile.TarInfo(f"{folder}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_the_archive_is_extracted_once_and_read_in_order(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(archive())
    data = Cifar10(root=tmp_path)
    data.check()
    (tmp_path / ARCHIVE).unlink()
    train, test = data.train(), data.test()
    assert train.images.shape == (5 * PER_FILE, 3, 32, 32) and test.images.shape == (PER_FILE, 3, 32, 32)
    expected = np.concatenate([records(number) for number in range(5)])
    assert (train.images.reshape(-1, 3072) == expected[:, 1:]).all()
    assert (train.labels == expected[:, 0]).all()
    assert (test.labels == records(5)[:, 0]).all()
    assert train.images[0, 1, 0, 0] == records(0)[0, 1 + 1024]  # green follows red


def test_paths_in_the_archive_lead_nowhere_else(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ARCHIVE).write_bytes(archive(folder="../../elsewhere"))
    Cifar10(root=tmp_path / "root").check()
    assert [p.name for p in tmp_path.iterdir()] == ["root"]


def test_an_archive_that_lacks_a_file_is_refused(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(archive(TRAIN_FILES))
    with pytest.raises(PipelineError, match=r"not readable as CIFAR-10.*it lacks test_batch.bin"):
        Cifar10(root=tmp_path).check()


def test_a_truncated_archive_leaves_no_part_of_a_file(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(archive()[:-20_000])
    with pytest.raises(
        PipelineError, match=r"cifar-10-binary.tar.gz is not readable(.|\n)*Remedy: delete it"
    ):
        Cifar10(root=tmp_path).check()
    left = list((tmp_path / FOLDER).iterdir())
    assert all(p.name in TRAIN_FILES and p.stat().st_size == PER_FILE * RECORD for p in left)


def test_a_file_of_another_length_is_refused(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(archive())
    Cifar10(root=tmp_path).check()
    (tmp_path / FOLDER / "test_batch.bin").write_bytes(b"\0" * (RECORD + 1))
    with pytest.raises(PipelineError, match="3074 bytes are not a whole number of 3073-byte records"):
        Cifar10(root=tmp_path).test()


def test_the_archive_is_downloaded_and_verified(server, tmp_path, monkeypatch):
    url, folder = server
    content = archive()  # once: gzip writes the time into it
    (folder / ARCHIVE).write_bytes(content)
    with pytest.raises(PipelineError, match="another sha256 than c4a38c50"):
        Cifar10(root=tmp_path / "root", mirror=url).check()
    monkeypatch.setattr(cifar10, "ARCHIVE_SHA256", hashlib.sha256(content).hexdigest())
    assert len(Cifar10(root=tmp_path / "root", mirror=url).train()) == 5 * PER_FILE


def test_the_fingerprint_follows_the_content(tmp_path):
    (tmp_path / ARCHIVE).write_bytes(archive())
    before = Cifar10(root=tmp_path).fingerprint()
    file: Path = tmp_path / FOLDER / "test_batch.bin"
    file.write_bytes(records(9).tobytes())
    assert Cifar10(root=tmp_path).fingerprint() != before
