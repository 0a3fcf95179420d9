"""What holds for every estimator: it rounds as the simulation does, and its levels stay."""

import pytest
import torch
from torch import nn

from stages.quant.estimators.dsq import Dsq
from stages.quant.estimators.lsq import Lsq
from stages.quant.estimators.pact import Pact
from stages.quant.estimators.ste import Ste
from stages.quant.qparams import fake_quantize
from stages.quant.quantizers.symmetric import Symmetric

ESTIMATORS = [Ste(), Pact(), Lsq(), Lsq(initial="mean"), Dsq()]
each = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)


@each
def test_a_weight_is_rounded_as_in_simulation(estimator, a_start, x):
    quantizer = estimator.weight(a_start)
    assert torch.equal(quantizer(x), fake_quantize(x, quantizer.qparams()))
    quantizer.observe(x)
    quantizer.initialize(x)
    assert torch.equal(quantizer(x), fake_quantize(x, quantizer.qparams()))


@each
def test_an_activation_is_rounded_as_in_simulation(estimator, an_activation, x):
    quantizer = estimator.activation(an_activation)
    quantizer.observe(x)
    quantizer.initialize(x)
    assert torch.equal(quantizer(x), fake_quantize(x, quantizer.qparams()))


@each
def test_a_fused_relu_clamps_at_zero(estimator, start, x):
    quantizer = estimator.activation(start(Symmetric(bits=4, signed=True), -1.0, 1.0, relu=True))
    assert torch.equal(quantizer(x), fake_quantize(x.relu(), quantizer.qparams()))
    x.requires_grad_()
    quantizer(x).sum().backward()
    assert not x.grad[x < 0].any()


@each
def test_levels_and_axis_never_change(estimator, a_start, x):
    quantizer = estimator.weight(a_start)
    for scale in (0.01, 1.0, 100.0):
        quantizer.observe(scale * x)
        quantizer.initialize(scale * x)
        for name in ("quant_min", "quant_max", "ch_axis"):
            assert getattr(quantizer.qparams(), name) == getattr(a_start.qparams, name)
        assert quantizer.qparams().scale.shape == a_start.qparams.scale.shape


@each
def test_scales_stay_positive_whatever_the_optimizer_does(estimator, a_start, x):
    quantizer = estimator.weight(a_start)
    with torch.no_grad():
        for parameter in quantizer.parameters():
            parameter.fill_(-1.0)
    y = quantizer(x)
    assert torch.isfinite(y).all()
    assert (quantizer.qparams().scale > 0).all()
    assert all((parameter > 0).all() for parameter in quantizer.parameters())


@each
def test_two_forward_passes_before_a_backward_pass(estimator, a_start, x):
    quantizer = estimator.weight(a_start)
    x.requires_grad_()
    (quantizer(x) + quantizer(2.0 * x)).sum().backward()
    assert torch.isfinite(x.grad).all()


@each
def test_state_is_in_the_state_dict(estimator, a_start, x):
    """A fresh quantizer with the state of another rounds as that one: checkpoints hold all there is."""
    trained, fresh = estimator.weight(a_start), estimator.weight(a_start)
    trained.observe(3.0 * x)
    trained.initialize(3.0 * x)
    assert isinstance(trained, nn.Module)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(x), trained(x))


@each
def test_gradients_have_the_layout_of_values(estimator, start):
    """A pool gives gradients in NCHW; passed on so, all layers before it would run at half the speed."""
    quantizer = estimator.activation(start(Symmetric(bits=4, signed=False), 0.0, 2.0))
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    (gradient,) = torch.autograd.grad(quantizer(x), x, torch.randn(2, 3, 4, 5))
    assert gradient.is_contiguous(memory_format=torch.channels_last)
