"""The network of digits over gemmlowp gives our integers on real images."""

import numpy as np
import pytest
import torch

from stages.artifacts import Observations
from stages.data.digits import Digits
from stages.graph.lower import lower
from stages.integer.interpreter import Interpreter, quantize_input
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.granularity.per_tensor import PerTensor
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.symmetric import Symmetric
from tests.stages.exporters.gemmlowp_code.compiled import compile_cpp, needs_gemmlowp, run_cpp
from tests.stages.graph.test_lower import calibrated


@needs_gemmlowp
@pytest.mark.parametrize(
    ("weight", "granularity", "flag"),
    [(Affine(bits=8), PerTensor(), "-O1"), (Symmetric(bits=8, signed=True), PerChannel(), "-msse4.1")],
    ids=["affine_per_tensor", "symmetric_per_channel"],
)
def test_the_digits_network(digits_inputs, tmp_path, weight, granularity, flag):
    data = Digits()
    images = torch.from_numpy(data.test().images[:200]).float() / 255
    images = (images - data.mean[0]) / data.std[0]
    graph = digits_inputs[Observations].graph
    model, _ = calibrated(graph, images, weight, Affine(bits=8), granularity)
    program = lower(model, "fixed_point")
    q = quantize_input(program, images.numpy())
    found = run_cpp(compile_cpp(program, tmp_path, flag), program, q)
    expected = Interpreter(program, threads=1).run(q)
    assert len(np.unique(expected)) > 20
    np.testing.assert_array_equal(found, expected)
