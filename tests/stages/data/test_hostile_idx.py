"""Sets of digits that say that they hold more than they may. Refused before memory is taken."""

from __future__ import annotations

import struct

import pytest

from pipeline.errors import PipelineError
from stages.data import mnist
from stages.data.mnist import Mnist
from tests.stages.data.hostile import MIB, little_memory, zeros

LABELS = "train-labels-idx1-ubyte"
IMAGES = "train-images-idx3-ubyte"


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
