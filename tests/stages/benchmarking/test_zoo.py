"""Zoos build nothing to count parameters, and stand without what they do not need."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError
from stages.benchmarking.timm_zoo import TimmZoo
from stages.benchmarking.torchvision_operators import optional_torchvision_operators
from stages.benchmarking.transformers_zoo import TransformersZoo
from stages.benchmarking.zoo import Zoo, count_parameters


def test_parameters_are_counted_without_memory():
    assert count_parameters(lambda: nn.Linear(10**6, 10**6)) == 10**12 + 10**6


@pytest.mark.parametrize(("zoo", "package"), [(TimmZoo(), "timm"), (TransformersZoo(), "transformers")])
def test_a_zoo_whose_package_is_missing_says_what_to_install(zoo: Zoo, package: str, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package} is not installed .*pip install '\.\[zoo\]'"):
        zoo.check()


def test_operators_of_torchvision_that_are_missing_are_left_out_others_still_fail():
    before = torch.library.register_fake
    with optional_torchvision_operators():

        @torch.library.register_fake("torchvision::no_such_operator")
        def shape(x):
            return x

        assert shape(3) == 3
        with pytest.raises(RuntimeError, match="another::no_such_operator"):
            torch.library.register_fake("another::no_such_operator")(lambda x: x)
    assert torch.library.register_fake is before


def test_the_smallest_of_timm():
    pytest.importorskip("transformers")
    zoo = TimmZoo()
    try:
        zoo.check()
    except ConfigError:
        pytest.skip("timm is not installed")
    assert len(zoo.families()) >= 92 and "resnet" in zoo.families()
    network = zoo.network("mlp_mixer")
    assert network.parameters == count_parameters(network.build) < 10e6
    assert network.shape[0] == 3


def test_text_and_images_of_transformers():
    pytest.importorskip("transformers")
    zoo = TransformersZoo()
    bert, vit = zoo.network("Bert"), zoo.network("ViT")
    assert (bert.shape, bert.dtype) == ((32,), torch.int64) and vit.shape == (3, 224, 224)
    with torch.inference_mode():
        assert bert.build()(torch.zeros(2, *bert.shape, dtype=torch.int64))[0].shape == (2, 32, 32)
    assert len(zoo.families()) >= 60
