from __future__ import annotations

import torch
from torch import nn

from stages.benchmarking.settling import settle_batch_norm


def test_activations_of_a_deep_random_network_keep_unit_size():
    torch.manual_seed(0)

    def block():
        return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())

    blocks = [block() for _ in range(30)]
    module = nn.Sequential(nn.Conv2d(3, 8, 1), *blocks).eval()
    x = torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        before = module(x).std()
        settle_batch_norm(module, x)
        after = module(x).std()
    assert before < 1e-4
    assert 0.3 < after < 3.0
    assert not any(m.training for m in module.modules())
    assert {m.momentum for m in module.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}


def test_a_network_without_batch_norm_is_not_run():
    class Never(nn.Module):
        def forward(self, x):
            raise AssertionError

    settle_batch_norm(Never(), torch.zeros(2, 1))
