"""Weights files of any bytes and kinds: the network's own numbers, or one error before memory is taken."""

from __future__ import annotations

import os
import struct
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import PipelineError
from stages.models.weights import load_weights


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        self.norm = nn.BatchNorm1d(4, affine=False)
        self.register_buffer("index", torch.arange(4))
        self.register_buffer("mask", torch.ones(4, dtype=torch.bool))


def state(**changed: object) -> dict[str, object]:
    return {**Small().state_dict(), **{name.replace("__", "."): value for name, value in changed.items()}}


def refusal(path) -> str:
    with pytest.raises(PipelineError) as error:
        load_weights(Small(), str(path), "small")
    assert f"model.weights={path}" in str(error.value) and "\nRemedy: " in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, these are no weights",
        b"PK\3\4",
        b"PK\5\6" + bytes(18),
        b"\x80\2.",
        b"\x80\x02}.",
        b"(" * 9,
        b"\x80\2K\1.",
        b"version https://git-lfs.github.com/spec/v1\n",
        struct.pack("<Q", 2**63) + b"{}",
        bytes(64),
    ],
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_what_is_no_checkpoint_is_said(tmp_path, content, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    refusal(path)


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2", "complex64", "complex128"])
def test_a_kind_of_number_that_no_network_has_is_refused_by_name(tmp_path, dtype):
    torch.save(state(layer__weight=torch.ones(4, 4).to(getattr(torch, dtype))), tmp_path / "a.pt")
    assert f"'layer.weight' is {dtype}, which is none of float16" in refusal(tmp_path / "a.pt")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.int32])
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_integers_in_the_place_of_weights_are_refused(tmp_path, dtype, save):
    path = tmp_path / ("a.pt" if save is torch.save else "a.safetensors")
    save(state(layer__weight=torch.ones(4, 4).to(dtype)), path)
    text = refusal(path)
    assert f"'layer.weight' is {str(dtype).removeprefix('torch.')}, and the network has float32" in text
    assert "before any quantization" in text


def test_quantized_and_meta_tensors_are_refused_by_name(tmp_path):
    levels = torch.quantize_per_tensor(torch.ones(4, 4), 0.1, 0, torch.qint8)
    torch.save(state(layer__weight=levels), tmp_path / "a.pt")
    assert "'layer.weight' is quantized, qint8.\nRemedy: give the checkpoint" in refusal(tmp_path / "a.pt")
    torch.save(state(layer__weight=torch.ones(4, 4, device="meta")), tmp_path / "b.pt")
    assert "meta" in refusal(tmp_path / "b.pt")


def test_a_mask_and_numbers_are_two_kinds(tmp_path):
    torch.save(state(mask=torch.ones(4, dtype=torch.int64)), tmp_path / "a.pt")
    assert "'mask' is int64, and the network has bool" in refusal(tmp_path / "a.pt")
    torch.save(state(index=torch.ones(4, dtype=torch.bool)), tmp_path / "b.pt")
    assert "'index' is bool, and the network has int64" in refusal(tmp_path / "b.pt")


@pytest.mark.parametrize("kind", ["complex64", "float8_e5m2"])
def test_a_counter_of_batches_is_a_number_too(tmp_path, kind):
    torch.save(state(norm__num_batches_tracked=torch.tensor(3.0).to(getattr(torch, kind))), tmp_path / "a.pt")
    assert f"'norm.num_batches_tracked' is {kind}" in refusal(tmp_path / "a.pt")


def test_doubles_beyond_float32_are_refused(tmp_path):
    torch.save(state(layer__weight=torch.full((4, 4), 1e300, dtype=torch.float64)), tmp_path / "a.pt")
    text = refusal(tmp_path / "a.pt")
    assert "'layer.weight' is float64, and the network has float32, which does not hold its values" in text


@pytest.mark.parametrize("sparse", [False, True])
def test_a_huge_shape_over_few_bytes_takes_no_memory(tmp_path, sparse):
    if sparse:
        huge = torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), torch.ones(1), (2**30, 2**30))
    else:
        huge = torch.ones(1).expand(2**30, 2**20)
    torch.save(state(layer__weight=huge), tmp_path / "a.pt")
    assert "1 of another shape: layer.weight [1073741824, " in refusal(tmp_path / "a.pt")


def test_a_huge_shape_of_tied_weights_is_not_compared(tmp_path):
    module = Small()
    module.other = module.layer
    huge = torch.ones(1).expand(2**30, 2**20)
    torch.save(module.state_dict() | {"layer.weight": huge, "other.weight": huge}, tmp_path / "a.pt")
    with pytest.raises(PipelineError, match=r"2 of another shape: layer.weight"):
        load_weights(module, str(tmp_path / "a.pt"), "small")


def test_a_fifo_a_folder_and_a_device_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.pt")
    (tmp_path / "folder.pt").mkdir()
    (tmp_path / "zero.pt").symlink_to("/dev/zero")
    (tmp_path / "itself.pt").symlink_to("itself.pt")
    for name in ("fifo.pt", "folder.pt", "zero.pt"):
        assert "is no regular file, but a folder, FIFO or device" in refusal(tmp_path / name)
    assert "no such file" in refusal(tmp_path / "itself.pt")


def test_an_archive_that_says_far_more_than_it_holds_is_refused(tmp_path):
    torch.save(state(), tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as whole,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for info in whole.infolist():
            content = whole.read(info)
            bomb.writestr(info.filename, content + bytes(2**25) * info.filename.endswith("data/0"))
    assert "its members say that they have 0.0 GiB, in a file of 0.0 MiB: torch comp" in refusal(
        tmp_path / "b.pt"
    )
