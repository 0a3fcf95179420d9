"""Competitors of other packages on a small network: their outputs are its, or they say why not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from stages.benchmarking.competitor import Case, Competitor, check_packages, is_held, is_peer
from stages.benchmarking.executorch_peer import ExecuTorchFloat, ExecuTorchInt8
from stages.benchmarking.iree_peer import IreeFloat
from stages.benchmarking.mnn_peer import MnnFloat, MnnInt8
from stages.benchmarking.ncnn_peer import NcnnFloat
from stages.benchmarking.onnxruntime_peer import OnnxRuntimeDynamic
from stages.benchmarking.openvino_peer import OpenVinoFloat
from stages.benchmarking.process import FailedError, started
from stages.benchmarking.workload import with_input

PEERS = {
    "mnn_float": (MnnFloat(), 0.9999),
    "mnn_int8": (MnnInt8(), 0.95),
    "ncnn_float": (NcnnFloat(), 0.9999),
    "ncnn_bf16": (NcnnFloat(bf16=True), 0.999),
    "executorch_float": (ExecuTorchFloat(), 0.9999),
    "executorch_int8": (ExecuTorchInt8(), 0.95),
    "iree_float": (IreeFloat(), 0.9999),
    "onnxruntime_dynamic": (OnnxRuntimeDynamic(), 0.99),
}


def _skip_where_missing(peer: Competitor) -> None:
    try:
        check_packages(peer)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_computes_the_network(case: Case, name: str):
    peer, least = PEERS[name]
    _skip_where_missing(peer)
    with started(peer, with_input(case, 2, threads=1)) as seconds:
        assert seconds(2) > 0.0
        assert seconds.agreement > least


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_whose_package_is_missing_says_what_to_install(case: Case, name: str, monkeypatch):
    peer, _ = PEERS[name]
    extra = getattr(peer, "extra", "bench")
    monkeypatch.setattr("stages.benchmarking.competitor.find_spec", lambda package: None)
    with (
        pytest.raises(FailedError, match=rf"is not installed; pip install '\.\[{extra}\]'"),
        started(peer, case),
    ):
        pass
    assert is_peer(peer)
    assert is_held(peer) == (name == "iree_float")


class Strided(nn.Module):
    """Slices with a step, which no layer of ncnn does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, ::2, ::2]


def test_ncnn_names_the_layer_that_it_does_not_have(case: Case):
    _skip_where_missing(NcnnFloat())
    case = replace(case, module=Strided())
    with pytest.raises(FailedError, match=r"ncnn has no layer Tensor\.slice"), started(NcnnFloat(), case):
        pass


def test_openvino_has_no_bfloat16_where_it_is_held(case: Case):
    with pytest.raises(RuntimeError, match="isa=avx2 has no bfloat16"):
        OpenVinoFloat(precision="bf16").prepare(replace(case, isa="avx2"))
