"""LSQ's gradients against the paper's equations, elementwise and by finite differences."""

import math

import pytest
import torch

from stages.quant.estimators.lsq import Lsq
from stages.quant.quantizers.symmetric import Symmetric


def test_gradients_follow_the_equations(a_start, x, weighted):
    """Eq. 3 and 5 over every element, and the gradient scale 1 / sqrt(N · Qp)."""
    quantizer = Lsq().weight(a_start)
    qparams = quantizer.qparams()
    x.requires_grad_()
    (quantizer(x) * weighted).sum().backward()
    scale, zero_point = (t.reshape(-1, 1).double() for t in (qparams.scale, qparams.zero_point))
    v = x.detach().double() / scale
    lowest, highest = qparams.quant_min - zero_point, qparams.quant_max - zero_point
    inside = (lowest < v) & (v < highest)
    terms = torch.where(inside, v.round() - v, v.clamp(lowest, highest)) * weighted.double()
    shared = x.numel() / qparams.scale.numel()
    expected = terms.sum(1) if qparams.scale.ndim else terms.sum()
    expected = expected / math.sqrt(shared * float(highest.max()))
    torch.testing.assert_close(quantizer.scale.grad.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x.grad, torch.where(inside, weighted, 0.0), rtol=1e-6, atol=0.0)


def test_scale_gradient_is_the_derivative_of_the_straight_through_function(start, x):
    """With the rounding error held, y(s) = s · (clamp(x/s) + error) is smooth; finite differences."""
    begin = start(Symmetric(bits=3, signed=True), -1.0, 1.0)
    quantizer = Lsq().weight(begin)
    quantizer(x).sum().backward()
    s, highest = float(begin.qparams.scale), 3.0
    v = x.double() / s
    error = torch.where(v.abs() < highest, v.round() - v, 0.0)

    def y(step):
        return (step * ((x.double() / step).clamp(-highest, highest) + error)).sum()

    h = 1e-7
    derivative = (y(s + h) - y(s - h)) / (2 * h)
    torch.testing.assert_close(
        quantizer.scale.grad.double() * math.sqrt(x.numel() * highest), derivative, rtol=1e-3, atol=1e-2
    )


def test_samples_do_not_count_in_the_gradient_scale(start, x, weighted):
    """N is the number of features of one sample: twice the batch, twice the gradient."""
    once, twice = (Lsq().activation(start(Symmetric(bits=4), 0.0, 2.0)) for _ in range(2))
    (once(x) * weighted).sum().backward()
    (twice(torch.cat([x, x])) * torch.cat([weighted, weighted])).sum().backward()
    torch.testing.assert_close(twice.scale.grad, 2.0 * once.scale.grad)


@pytest.mark.parametrize("relu", [False, True])
def test_initial_scale(start, x, relu):
    quantizer = Lsq(initial="mean").activation(start(Symmetric(bits=4), 0.0, 2.0, relu=relu))
    quantizer.initialize(x)
    mean = (x.relu() if relu else x.abs()).mean()
    torch.testing.assert_close(quantizer.scale.detach(), 2.0 * mean / math.sqrt(14.0))


def test_calibrated_scales_are_the_start(start, x):
    begin = start(Symmetric(bits=4, signed=True), [-1.0, -2.0, -3.0], [1.0, 1.0, 1.0], 0)
    quantizer = Lsq().weight(begin)
    quantizer.initialize(x)
    assert torch.equal(quantizer.scale.detach(), begin.qparams.scale)


def test_channels_of_zeros_keep_their_scale(start):
    begin = start(Symmetric(bits=4, signed=True), [-1.0, -2.0], [1.0, 1.0], 0)
    quantizer = Lsq(initial="mean").weight(begin)
    quantizer.initialize(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert quantizer.scale[0] == begin.qparams.scale[0]
    torch.testing.assert_close(quantizer.scale[1].detach(), torch.tensor(2.0 / math.sqrt(7.0)))
