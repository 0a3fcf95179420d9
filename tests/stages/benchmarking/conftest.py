from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from stages.artifacts import FloatModel, QuantizedModel
from stages.benchmarking.competitor import Batches, Case
from stages.data.noise import Noise
from stages.graph.capture import capture
from stages.graph.quantized import QuantizedGraph
from stages.integer.program import Program
from tests.stages.exporters.examples import X, Y, layer


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A small network; its program is another one, which nothing here depends on."""
    data = Noise(shape=(3, 8, 8), samples=6)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()
    calibration = Batches(data=data, ids=(0, 2, 5), batch_size=2)
    program: Program = layer({"x": X, "y": Y}, residual=False)
    model = FloatModel(graph=capture(module, data.shape))
    return Case(
        module=module,
        model=model,
        quantized=QuantizedModel(quantized=QuantizedGraph(graph=model.graph, activations={}, weights={})),
        program=program,
        x=torch.randn(2, 3, 8, 8),
        calibration=calibration,
        threads=1,
        seed=0,
        scratch=tmp_path,
    )
