"""The straight-through gradient, and ranges that follow the data."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.quant.estimators.base import Start, representable
from stages.quant.estimators.ste import Ste
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric


def test_gradient_is_one_inside_the_range_and_zero_outside(a_start, x, weighted):
    quantizer = Ste().weight(a_start)
    x.requires_grad_()
    (quantizer(x) * weighted).sum().backward()
    low, high = (end.reshape(-1, 1) for end in representable(a_start.qparams))
    margin = 1e-5 * high
    expected = torch.where((low - margin <= x) & (x <= high + margin), weighted, 0.0)
    torch.testing.assert_close(x.grad, expected, rtol=1e-6, atol=0.0)


@given(bits=st.integers(2, 8), high=st.floats(0.01, 100.0))
def test_the_ends_of_the_range_are_inside(bits, high):
    """max|w| defines the scale, and must be able to shrink."""
    own = Symmetric(bits=bits, signed=True)
    qparams = own.qparams(torch.tensor(-high), torch.tensor(high))
    quantizer = Ste().weight(Start(qparams=qparams, scheme=own.qparams))
    x = torch.tensor([-high, high], requires_grad=True)
    quantizer(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_an_activation_range_is_a_moving_average(start, x):
    begin = start(Affine(bits=8), -1.0, 2.0)
    quantizer = Ste(momentum=0.75).activation(begin)
    low, high = representable(begin.qparams)
    quantizer.observe(x)
    expected = Affine(bits=8).qparams(0.75 * low + 0.25 * x.min(), 0.75 * high + 0.25 * x.max())
    torch.testing.assert_close(quantizer.qparams().scale, expected.scale)
    assert quantizer.qparams().zero_point == expected.zero_point


def test_a_weight_range_is_that_of_the_moment(start, x):
    quantizer = Ste().weight(start(Symmetric(bits=4, signed=True), [-1.0] * 3, [1.0] * 3, 0))
    quantizer.observe(x)
    assert torch.equal(quantizer.qparams().scale, x.abs().amax(1) / 7)


def test_unused_momentum_is_refused():
    with pytest.raises(ValueError, match=r"momentum=1\.0: must be in \[0, 1\)"):
        Ste(momentum=1.0)
