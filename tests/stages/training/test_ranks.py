"""Several ranks train as one process does, but for the order of sums."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PipelineError
from stages.training.fit import FloatTraining, misfits_of_shares
from stages.training.ranks import Distributed
from stages.training.shares import Shares
from tests.stages.training import ranked

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """Two: of nine samples one has four, and the other five."""
    folder = tmp_path_factory.mktemp("ranks")
    return folder, ranked.on_ranks(2, folder)


def test_ranks_tell_each_other_what_they_know(ranks):
    _, found = ranks
    size = len(found)
    for rank, each in enumerate(found):
        assert each["agreed"] == {"from": [0, None]} and each["shared"] == "of rank 0"
        assert each["nothing"] == ""
        assert each["gathered"] == (["r" * other for other in range(size)] if rank == 0 else [])
        assert each["extremes"] == [[1.0, 1.0 - size], [0.5, size - 1.0]]


def test_batch_norm_is_that_of_the_whole_batch(ranks):
    assert max(max(each["batch_norm"]) for each in ranks[1]) < 1e-5


def difference(a, b):
    return max(np.abs(np.subtract(a["state"][name], b["state"][name])).max() for name in a["state"])


@pytest.mark.parametrize("name", ["trained", "resumed", *ranked.ESTIMATORS])
def test_all_ranks_end_with_the_same_weights(ranks, name):
    assert len({each[name]["digest"] for each in ranks[1]}) == 1
    assert len({str(each[name]["epochs"]) for each in ranks[1]}) == 1


def test_training_in_float_differs_from_that_of_one_by_rounding_alone(ranks):
    alone, found = ranked.trained(None), ranks[1][0]["trained"]
    assert alone["epochs"][0][0] == pytest.approx(found["epochs"][0][0], rel=1e-5)
    assert difference(alone, found) < 1e-4


@pytest.mark.parametrize("name", list(ranked.ESTIMATORS))
def test_quantized_training_observes_and_learns_what_one_process_does(ranks, name):
    # where a value lies between two levels, rounding of sums decides: a level is a tenth of these weights
    alone, found = ranked.quantized_training(None, name), ranks[1][0][name]
    assert alone["epochs"][0][0] == pytest.approx(found["epochs"][0][0], rel=2e-3)
    assert difference(alone, found) < 5e-3


def test_a_resumed_training_has_the_bits_of_an_undisturbed_one(ranks):
    for each in ranks[1]:
        assert len(each["begun"]["epochs"]) == 1
        assert each["resumed"]["epochs"] == each["trained"]["epochs"]
        assert each["resumed"]["digest"] == each["trained"]["digest"]


def test_a_training_goes_on_on_another_number_of_ranks(ranks, tmp_path, caplog):
    """The epochs before are those that were, those after differ by the order of sums."""
    folder, (first, *_) = ranks
    shutil.copytree(folder / "kept", tmp_path / "kept")
    found = ranked.trained(None, tmp_path / "kept" / "begun.safetensors")
    assert found["epochs"][0] == first["trained"]["epochs"][0]
    assert difference(found, first["trained"]) < 1e-4
    assert "goes on after 1 epochs, on 1 ranks instead of 2" in caplog.text


def shares(rank, size):
    own = Shares(None)
    own.rank, own.size = rank, size
    return own


@given(st.integers(1, 40), st.integers(2, 12), st.integers(1, 6))
def test_shares_of_a_batch_are_the_batch(count, batch_size, size):
    """In order, each sample once, at its place; every rank has a sample of every batch."""
    if count < max(2, size) or batch_size < size:
        return
    order = shares(0, size).usable(np.arange(count)[::-1].copy(), batch_size)
    assert count - len(order) < max(2, size)
    for parts in zip(*(shares(rank, size).of(order, batch_size) for rank in range(size)), strict=True):
        assert all(len(part.rows) for part in parts)
        assert [part.first for part in parts] == np.cumsum([0, *(len(p.rows) for p in parts)])[:-1].tolist()
        assert {part.of for part in parts} == {sum(len(part.rows) for part in parts)}


def test_fewer_samples_than_ranks_are_refused():
    with pytest.raises(PipelineError, match=r"3 samples to train on, for 4 ranks(.|\n)*--nproc-per-node=3"):
        shares(0, 4).usable(np.arange(3), 8)


def test_one_sample_is_no_batch():
    with pytest.raises(PipelineError, match=r"data.train: 1 sample to train on(.|\n)*Remedy: more samples"):
        shares(0, 1).usable(np.arange(1), 8)
    assert len(shares(0, 1).usable(np.arange(1), 1)) == 1  # asked for: networks without BatchNorm learn so


def test_batches_smaller_than_the_ranks_are_refused_by_name():
    (reason,) = misfits_of_shares("training.float", FloatTraining(batch_size=3), 4)
    assert "training.float.batch_size=3: must be at least 4" in reason and "--nproc-per-node=3" in reason
    assert not list(misfits_of_shares("training.float", FloatTraining(batch_size=4), 4))


@pytest.mark.parametrize(
    ("device", "gpus", "rank", "reason"),
    [
        ("cuda", 0, 0, "finds no GPU here. Remedy: device=cpu"),
        ("cuda:3", 2, 0, "device=cuda:3: this machine has 2 GPUs, numbered from 0. Remedy: device=cuda"),
        ("gpu", 2, 0, "device=gpu: torch knows no such device. Remedy: device=cpu, or cuda"),
        ("meta", 2, 0, "device=meta: must be cpu or cuda"),
        ("cuda:1", 2, 0, "device=cuda:1: is one GPU, which all ranks would share. Remedy: device=cuda,"),
        ("cuda", 2, 2, "is number 2 of this machine, which has 2 GPUs. Remedy: torchrun --nproc-per-node=2"),
        ("cuda", 2, 1, None),
        ("cpu", 0, 5, None),
    ],
)  # fmt: skip
def test_ranks_on_gpus_need_one_each(monkeypatch, device, gpus, rank, reason):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    for name, value in {"RANK": rank, "WORLD_SIZE": 8, "LOCAL_RANK": rank, "MASTER_ADDR": "host"}.items():
        monkeypatch.setenv(name, str(value))
    asked = Distributed(mode="ddp", device=device)
    if reason is None:
        asked.check()
        return
    with pytest.raises(PipelineError) as refusal:
        asked.check()
    assert reason in str(refusal.value)


def test_patience_of_ranks_is_positive():
    with pytest.raises(ValueError, match=r"timeout=0\.0: must be positive"):
        Distributed(timeout=0.0)
