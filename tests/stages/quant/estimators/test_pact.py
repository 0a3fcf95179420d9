"""PACT's gradient of the clipping value, against the derivative of clipping."""

import pytest
import torch

from stages.quant.estimators.pact import Pact
from stages.quant.quantizers.symmetric import Symmetric


def gradients(quantizer, x, weighted):
    x = x.clone().requires_grad_()
    (quantizer(x) * weighted).sum().backward()
    return x.grad, quantizer.alpha.grad


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("low", "relu"), [(0.0, True), (0.0, False), (-1.2, False)])
def test_gradients_are_those_of_clipping(start, x, weighted, bits, low, relu):
    """Eq. 3, and by finite differences of Σ g · clip(x, r·α, α), r = 0 after ReLU, −1 where signed."""
    quantizer = Pact().activation(start(Symmetric(bits=bits), low, 1.2, relu=relu))
    alpha = float(quantizer.alpha.detach())
    found_x, found_alpha = gradients(quantizer, x, weighted)
    ratio = 0.0 if low == 0.0 else -1.0

    def loss(a):
        return (weighted.double() * x.double().clamp(ratio * a, a)).sum()

    h = 1e-6
    torch.testing.assert_close(
        found_alpha.double(), (loss(alpha + h) - loss(alpha - h)) / (2 * h), rtol=1e-4, atol=1e-4
    )
    expected_x = torch.where((ratio * alpha < x) & (x < alpha), weighted, 0.0)
    torch.testing.assert_close(found_x, expected_x, rtol=1e-6, atol=0.0)


def test_penalty_is_weight_decay_on_alpha(start):
    quantizer = Pact(decay=0.5).activation(start(Symmetric(bits=4), 0.0, 3.0))
    quantizer.penalty().backward()
    torch.testing.assert_close(quantizer.alpha.grad, 0.5 * quantizer.alpha.detach())
    assert Pact().weight(start(Symmetric(bits=4, signed=True), -1.0, 1.0)).penalty() is None


def test_negative_decay_is_refused():
    with pytest.raises(ValueError, match=r"decay=-0\.1: must not be negative"):
        Pact(decay=-0.1)
