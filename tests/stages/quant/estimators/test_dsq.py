"""DSQ's gradient against finite differences of the soft staircase."""

import math

import pytest
import torch

from stages.quant.estimators.dsq import Dsq
from stages.quant.estimators.lsq import Lsq
from stages.quant.quantizers.symmetric import Symmetric


def soft(x, delta, lowest, highest, alpha):
    """The paper's Q, float64: x clamped to the range, then a tanh from level to level."""
    kappa = math.log(2.0 / alpha - 1.0)
    v = (x / delta).clamp(lowest, highest)
    below = v.floor().clamp(max=highest - 1)
    phi = torch.tanh(kappa * (v - below - 0.5)) / math.tanh(kappa / 2.0)
    return delta * (below + (phi + 1.0) / 2.0)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 0.9])
def test_gradient_is_that_of_the_soft_staircase(start, x, weighted, alpha):
    begin = start(Symmetric(bits=4, signed=True), -1.0, 1.0)
    quantizer = Dsq(alpha=alpha).weight(begin)
    delta = float(begin.qparams.scale)
    found = x.clone().requires_grad_()
    (quantizer(found) * weighted).sum().backward()
    h = 1e-7
    wide = x.double()
    expected = (soft(wide + h, delta, -7, 7, alpha) - soft(wide - h, delta, -7, 7, alpha)) / (2 * h)
    smooth = ((wide / delta) - (wide / delta).round()).abs() > 1e-4  # the slope has a kink at each level
    torch.testing.assert_close(
        found.grad.double()[smooth], (expected * weighted)[smooth], rtol=1e-4, atol=1e-4
    )


def test_alpha_is_the_distance_from_the_staircase_beside_a_level():
    """Just inside an interval, φ = tanh(−κ/2) before scaling: 1 − |tanh| = α, the paper's definition."""
    for alpha in (0.1, 0.5):
        kappa = math.log(2.0 / alpha - 1.0)
        assert math.isclose(1.0 - math.tanh(kappa / 2.0), alpha)


def test_alpha_near_one_is_the_straight_through_estimator(start, x, weighted):
    begin = start(Symmetric(bits=3, signed=True), [-1.0] * 3, [1.0, 2.0, 3.0], 0)
    gradients = []
    for estimator in (Dsq(alpha=1.0 - 1e-4), Lsq()):
        quantizer, leaf = estimator.weight(begin), x.clone().requires_grad_()
        (quantizer(leaf) * weighted).sum().backward()
        gradients.append((leaf.grad, quantizer.scale.grad))
    for soft_gradient, straight in zip(*gradients, strict=True):
        torch.testing.assert_close(soft_gradient, straight, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_useless_softness_is_refused(alpha):
    with pytest.raises(ValueError, match=f"alpha={alpha}: must lie between 0"):
        Dsq(alpha=alpha)
