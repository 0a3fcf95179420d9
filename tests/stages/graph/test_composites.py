"""Functions that torch writes in others are captured as those."""

import pytest
import torch
import torch.nn.functional as F

from stages.graph.capture import capture
from stages.graph.lower import lower
from tests.quantizing import check_parity, fused, quantized
from tests.stages.graph.test_capture import Small, ops

SHAPE = (3, 8, 8)

BODIES = {
    "hstack": (lambda x: torch.hstack([x, x.relu()]), ["clamp", "concat"]),
    "concatenate": (lambda x: torch.concatenate([x, x], 2), ["concat"]),
    "narrow": (lambda x: x.narrow(1, 1, 2), ["slice"]),
    "swapaxes": (lambda x: x.swapaxes(1, 2), ["permute"]),
    "movedim": (lambda x: torch.movedim(x, 1, -1), ["permute"]),
    "mT": (lambda x: x.mT, ["permute"]),
    "fliplr": (lambda x: x.fliplr(), ["take"]),
    "tensor_split": (lambda x: x.tensor_split(2, 1)[1], ["slice"]),
    "ravel": (lambda x: x.ravel().view(x.shape), ["reshape", "reshape"]),
    "clip": (lambda x: x.clip(-1, 1), ["clamp"]),
    "clip in place": (lambda x: x.clip_(-1, 1) + x, ["clamp", "add"]),
    "expit": (torch.special.expit, ["table"]),
    "maximum of two": (lambda x: torch.max(x, -x), ["table", "maximum"]),
    "diff": (lambda x: x.diff(dim=1), ["slice", "slice", "subtract"]),
    "float_power": (lambda x: x.float_power(2), ["table"]),
    "addcmul": (lambda x: torch.addcmul(x, x.relu(), x, value=0.5), ["clamp", "multiply", "table", "add"]),
    "lerp": (lambda x: torch.lerp(x, x.relu(), 0.25), ["clamp", "table", "table", "add"]),
    "sum by einsum": (lambda x: torch.einsum("bchw->bc", x), ["sum"]),
}


@pytest.mark.parametrize("name", BODIES)
def test_its_parts_have_integer_forms(name):
    body, expected = BODIES[name]
    assert ops(capture(Small(body), SHAPE))[2:] == expected


@pytest.mark.parametrize(
    "body",
    [
        lambda x: F.cosine_similarity(x, x.flip(1), dim=1),
        lambda x: torch.einsum("bchw,hd,we->bcde", x, torch.ones(8, 3), torch.ones(8, 2)),
        lambda x: torch.addcdiv(x, x, 2 + x.sigmoid()),
    ],
)
def test_simulation_and_program_agree(body):
    torch.manual_seed(0)
    graph = fused(Small(body), SHAPE)
    assert "aten" not in [node.op for node in graph.nodes]
    x = torch.randn(8, *SHAPE)
    check_parity(lower(quantized(graph, x), "float"), x)


@pytest.mark.parametrize(
    "body",
    [
        lambda x: F.conv3d(x[:, None], torch.ones(1, 1, 1, 1, 1)),
        lambda x: F.instance_norm(x, torch.zeros(4), torch.ones(4), use_input_stats=False),
        lambda x: torch.nanmean(x, 1),
    ],
)
def test_one_with_a_part_that_has_none_is_an_island_as_a_whole(body):
    graph = capture(Small(body), SHAPE)
    (island,) = (node for node in graph.nodes if node.op == "aten")
    assert len(island.attrs["calls"]) == 1
    assert {node.op for node in graph.nodes} <= {"input", "conv2d", "reshape", "aten"}
