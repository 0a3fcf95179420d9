import pytest
import torch

from stages.data.batches import batches
from stages.data.digits import Digits
from stages.graph.capture import capture
from stages.models.mobilenet_digits import MobileNetDigits
from stages.training.teacher import teacher_of

DATA = Digits()


@pytest.mark.parametrize(("bfloat16", "tolerance"), [(False, 1e-4), (True, 0.03)])
def test_the_teacher_is_the_float_network(bfloat16, tolerance, monkeypatch):
    """In bfloat16 to three digits of its probabilities; what comes after is not computed in bfloat16."""
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"avx512_bf16": bfloat16}, raising=False)
    torch.manual_seed(0)
    module = MobileNetDigits().build((1, 8, 8), 10).eval()
    x, _ = next(batches(DATA.train(), 64, DATA))
    with torch.no_grad():
        taught, expected = teacher_of(capture(module, (1, 8, 8)), "cpu")(x), module(x)
        after = torch.full((4, 4), 1.001) @ torch.eye(4)
    assert taught.dtype == after.dtype == torch.float32
    assert torch.equal(after, torch.full((4, 4), 1.001))
    assert (taught.softmax(1) - expected.softmax(1)).abs().max() < tolerance
    assert bool((taught - expected).abs().max() > 1e-4) == bfloat16
