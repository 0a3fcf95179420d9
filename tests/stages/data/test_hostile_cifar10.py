"""Archives of CIFAR-10 that hold other things than its files. Refused before memory is taken."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from pipeline.errors import PipelineError
from stages.data import cifar10
from stages.data.cifar10 import ARCHIVE, RECORD, Cifar10
from tests.stages.data.hostile import MIB, little_memory, zeros


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
