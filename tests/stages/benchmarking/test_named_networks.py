from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
import torch

from pipeline.errors import ConfigError
from stages.benchmarking.named_networks import MiniLm, TimmNetwork
from stages.benchmarking.random_tokens import RandomTokens
from stages.benchmarking.workload import Workload


def test_a_network_of_timm_by_name():
    if not find_spec("timm"):
        pytest.skip("timm is not installed: pip install '.[zoo]'")
    module = TimmNetwork(network="mobilenetv3_small_050").build((3, 32, 32), 7).eval()
    with torch.no_grad():
        assert module(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_minilm_gives_every_token_its_vector_in_evaluation_mode():
    pytest.importorskip("transformers", reason="transformers is not installed: pip install '.[zoo]'")
    workload = Workload(model=MiniLm(vocabulary=50), data=RandomTokens(length=9, vocabulary=50, samples=16))
    module = workload.module(seed=0)
    x = torch.zeros(2, 9, dtype=torch.int64)
    with torch.no_grad():
        assert module(x).shape == (2, 9, 384)
        assert torch.equal(module(x), module(x))  # no dropout


@pytest.mark.parametrize(
    ("package", "model"), [("timm", TimmNetwork(network="resnet50")), ("transformers", MiniLm())]
)
def test_a_missing_package_is_named_with_the_remedy(package, model, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ConfigError, match=rf"{package} is not installed .*pip install '\.\[zoo\]', or benchm"
    ):
        model.build((3, 32, 32), 10)
