"""Arrays whose headers say more than their files hold. Refused before memory is taken."""

from __future__ import annotations

import os
import struct
import zipfile

import numpy as np
import pytest

from pipeline.errors import PipelineError
from stages.data.array_files import ArrayFile
from tests.stages.data.hostile import MIB, little_memory


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


def test_a_header_that_is_no_python_is_refused(tmp_path):
    (tmp_path / "x.npy").write_bytes(npy((4,), content=bytes(16)).replace(b"(4,), }", b"(4,),  "))
    with pytest.raises(PipelineError, match=r"x.npy: cannot be read \("):
        ArrayFile(tmp_path / "x.npy", "data.train").read("")
