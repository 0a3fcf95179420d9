"""Which channels go together, and why others stay."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.compression.channels.coupling import couple
from stages.graph.capture import capture
from stages.graph.fold import attach_batch_norm
from stages.models.resnet_cifar import ResNetCifar
from tests.stages.compression.channels.networks import Attention


def coupled(module, shape=(3, 8, 8)):
    return couple(attach_batch_norm(capture(module.eval(), shape)))


def sets(coupling, name):
    """The units of a layer's channels."""
    return set(coupling.channels[name].ids.tolist())


def test_option_a_ties_the_middle_of_a_wider_stage_to_the_stage_before():
    coupling = coupled(ResNetCifar().build((3, 32, 32), 10), (3, 32, 32))
    first, second = (coupling.channels[f"layer{i}.2.conv2"].ids.tolist() for i in (1, 2))
    assert second[8:24] == first and len(set(second)) == 32
    assert coupling.channels["layer3.0.conv2"].ids.tolist()[16:48] == second
    assert sets(coupling, "layer1.0.conv2") == sets(coupling, "conv1")
    assert not sets(coupling, "layer1.0.conv1") & sets(coupling, "conv1")


class Forward(nn.Module):
    """Layers, and what is done with them."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


CONV = {"first": nn.Conv2d(3, 8, 1), "last": nn.Conv2d(8, 2, 1)}
SHARED = {"first": nn.Conv2d(3, 3, 1), "last": nn.Conv2d(3, 2, 1)}


@pytest.mark.parametrize(
    ("function", "layers", "why"),
    [
        (lambda m, x: m.first(x), CONV, "they are the network's outputs"),
        (lambda m, x: m.last(F.normalize(m.first(x), dim=1)), CONV, "whose channels are not followed"),
        (lambda m, x: m.last(m.first(x).cumsum(2)), CONV, r"\(aten\) reads them, whose channels"),
        (lambda m, x: m.last(m.first(x)[:, ::2].repeat(1, 2, 1, 1)), CONV, "takes one of 2 of them"),
        (
            lambda m, x: m.last(m.first(x).mean(1, keepdim=True).repeat(1, 8, 1, 1)),
            CONV,
            r"is of all of them",
        ),
        (lambda m, x: m.last(F.softmax(m.first(x), 1)), CONV, r"\(softmax\) is of all of them"),
        (lambda m, x: m.last(m.first(x)[:, :3] * x), SHARED, r"\(multiply\) reads them beside a value"),
        (lambda m, x: m.last(m.first(m.first(x))), SHARED, "it shares its parameters with another layer"),
        (lambda m, x: m.last(m.first(x).transpose(1, 3)), CONV, "reads them along another dimension"),
        (lambda m, x: m.last(m.first(x)).flatten(1), CONV, "they are the network's outputs"),
    ],
)
def test_channels_that_are_not_followed_stay_and_say_why(function, layers, why):
    coupling = coupled(Forward(function, **layers))
    name = "last" if why.startswith("they") and "last" in coupling.stays else "first"

    assert re.search(why, coupling.stays[name])
    assert not sets(coupling, name) & coupling.free if name in coupling.channels else True


def test_a_network_whose_one_layer_is_its_output_keeps_all():
    coupling = coupled(nn.Conv2d(3, 4, 1))
    assert not coupling.free and len(coupling.stays) == 1


def test_heads_keep_their_number_and_lose_the_same_of_query_key_and_value():
    coupling = coupled(nn.Sequential(nn.Linear(8, 8), Attention(8, 2), nn.Linear(8, 2)), (5, 8))
    ids = coupling.channels["1.qkv"].ids.reshape(3, 2, 4)
    assert (ids == ids[0, 0]).all() and len(set(ids[0, 0].tolist())) == 4
    assert sets(coupling, "1.qkv") <= coupling.free and sets(coupling, "1.up") <= coupling.free
    assert "(layer_norm) reads them, whose channels are not followed" in coupling.stays["0"]


def test_products_of_matrices_tie_what_they_sum_over():
    layers = {name: nn.Linear(6, 4) for name in ("a", "b", "c")}
    own = Forward(lambda m, x: (m.a(x) @ m.b(x).transpose(1, 2)) @ m.c(x), **layers, last=nn.Linear(4, 2))
    own.function = lambda m, x: m.last((m.a(x) @ m.b(x).transpose(1, 2)) @ m.c(x))
    coupling = coupled(own, (5, 6))
    assert sets(coupling, "a") == sets(coupling, "b") and not sets(coupling, "a") & sets(coupling, "c")
    assert sets(coupling, "a") | sets(coupling, "c") == coupling.free


def test_groups_of_a_convolution_go_whole():
    own = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1, groups=4), nn.Conv2d(12, 2, 1))
    coupling = coupled(own)
    assert coupling.channels["1"].ids.reshape(4, 3).tolist() == [
        [unit] * 3 for unit in coupling.channels["0"].ids[::2].tolist()
    ]
    assert len(coupling.free) == 4


def test_pixels_of_a_shuffle_go_with_their_channel():
    own = nn.Sequential(nn.Conv2d(3, 24, 1), nn.PixelShuffle(2), nn.Conv2d(6, 2, 1))
    ids = coupled(own).channels["0"].ids.reshape(6, 4)
    assert (ids == ids[:, :1]).all() and len(set(ids.flatten().tolist())) == 6


def test_rest_values_follow_functions():
    own = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sigmoid(), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1))
    coupling = coupled(own)
    assert set(coupling.channels["2"].rest.tolist()) == {0.5}
    assert torch.isfinite(torch.from_numpy(coupling.channels["2"].rest)).all()
