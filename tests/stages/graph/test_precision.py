"""Networks of another float type are captured in float32, their own casts among it."""

import pytest
import torch
from torch import Tensor, nn

from stages.graph.aten.precision import Float32Casts
from stages.graph.capture import capture


class Casting(nn.Module):
    """A linear layer of another type, which casts its input itself."""

    def __init__(self, dtype, cast):
        super().__init__()
        self.fc, self.cast = nn.Linear(6, 5).to(dtype), cast

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.cast(x)).float()


@pytest.mark.parametrize(
    ("dtype", "cast"),
    [
        (torch.float64, lambda x: x.double()),
        (torch.bfloat16, lambda x: x.bfloat16()),
        (torch.float16, lambda x: x.half()),
        (torch.float16, lambda x: x.to(torch.float16)),
        (torch.float16, lambda x: x.to(dtype=torch.float16) + torch.zeros(6, dtype=torch.float16)),
        (torch.bfloat16, lambda x: x.type(torch.bfloat16)),
        (torch.float64, lambda x: x.softmax(1, dtype=torch.float64)),
    ],
)
def test_a_network_may_cast_its_values_itself(dtype, cast):
    module = Casting(dtype, cast)
    graph = capture(module, (6,))
    assert [node.op for node in graph.nodes][-1] == "linear"
    assert all(tensor.dtype == torch.float32 for tensor in graph.params.values())
    assert module.fc.weight.dtype == dtype, "the module stays as it was"


def test_a_network_may_compute_under_autocast():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 64), nn.Linear(64, 5)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                x = self.b(torch.relu(self.a(x)))
            return x.float()

    torch.manual_seed(0)
    assert [node.op for node in capture(Net(), (6,)).nodes] == ["input", "linear", "clamp", "linear"]


def test_whole_numbers_and_truth_values_keep_their_types():
    with Float32Casts():
        assert torch.ones(2).to(torch.int64).dtype == torch.int64
        assert torch.ones(2, dtype=torch.float64).dtype == torch.float32
        assert (torch.ones(2) > 0).dtype == torch.bool
    assert torch.ones(2).double().dtype == torch.float64
