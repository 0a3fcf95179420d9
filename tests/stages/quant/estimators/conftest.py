"""Tensors and starting points that all estimators are tested on."""

import pytest
import torch

from stages.quant.estimators.scheme import start_of
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric


def start(quantizer, minimum, maximum, ch_axis=None, relu=False):
    qparams = quantizer.qparams(torch.as_tensor(minimum), torch.as_tensor(maximum), ch_axis)
    return start_of(qparams, quantizer, relu=relu)


@pytest.fixture(scope="session", name="start")
def start_fixture():
    return start


PER_TENSOR = {
    "symmetric": (Symmetric(bits=4, signed=True), -1.5, 1.0),
    "one_sided": (Symmetric(bits=3), 0.0, 1.7),
    "affine": (Affine(bits=8), -0.3, 1.9),
}
PER_CHANNEL = {
    "per_channel": (Symmetric(bits=2, signed=True), [-1.0, -0.2, 0.0], [0.5, 0.4, 2.0], 0),
    "affine_per_channel": (Affine(bits=3, signed=True), [-1.0, -0.2, 0.0], [0.5, 0.4, 2.0], 0),
}


@pytest.fixture(scope="session", params=PER_TENSOR.values(), ids=PER_TENSOR.keys())
def an_activation(request):
    """One scale."""
    return start(*request.param)


ALL = PER_TENSOR | PER_CHANNEL


@pytest.fixture(scope="session", params=ALL.values(), ids=ALL.keys())
def a_start(request):
    """One scale, or one for each of three channels."""
    return start(*request.param)


@pytest.fixture
def x():
    """Values within and beyond any of the ranges, three channels."""
    return 1.5 * torch.randn(3, 400, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weighted():
    """Random ∂L/∂y for `x`."""
    return torch.randn(3, 400, generator=torch.Generator().manual_seed(1))
