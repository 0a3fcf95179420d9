"""Networks on another device than the CPU, as far as a machine without a GPU can tell.

Tensors of torch's device ``meta`` have shapes and no values, and hardly an operator mixes them with those of
a CPU. What is computed on a GPU is not shown: torch's own operators are trusted to be the same on every
device.
"""

from __future__ import annotations

import pytest
import torch

from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.models.mobilenet_digits import MobileNetDigits
from stages.models.resnet_cifar import ResNetCifar
from tests.stages.networks import Attention, GatedBlock

NETWORKS = {
    "mobilenet": (lambda: MobileNetDigits().build((1, 8, 8), 10), (1, 8, 8)),
    "resnet": (lambda: ResNetCifar(depth=20).build((3, 32, 32), 10), (3, 32, 32)),
    "gated": (lambda: GatedBlock(4, 8), (4, 8, 8)),
    "transformer": (lambda: Attention().build((1, 8, 8), 10), (1, 8, 8)),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_network_stays_on_the_device_of_its_parameters(name):
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    graph = fuse(fold_batch_norm(capture(make().eval(), shape)))
    there = graph.with_params({key: tensor.to("meta") for key, tensor in graph.params.items()})
    seen = set()

    def record(node, value):
        seen.add(value.device.type)
        return value

    execute(there, torch.empty(2, *shape, device="meta"), record)
    assert seen == {"meta"}


def test_what_lies_on_another_device_is_noticed():
    make, shape = NETWORKS["mobilenet"]
    graph = fuse(fold_batch_norm(capture(make().eval(), shape)))
    with pytest.raises(RuntimeError, match="device"):
        execute(graph, torch.empty(2, *shape, device="meta"))
