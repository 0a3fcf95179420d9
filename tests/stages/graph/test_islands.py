"""Islands of float: the same levels in simulation and program, whatever function of torch they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stages.artifacts import IntegerProgram, QuantizedModel
from stages.graph.aten.refusal import RefusalError
from stages.graph.execute import execute
from stages.graph.lower import lower
from stages.graph.operators.aten import aten_function
from stages.integer.interpreter import dequantize_output
from stages.integer.validate import validate
from stages.measuring.accuracy import sqnr_db
from stages.quant.estimators.lsq import Lsq
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.training.qat_network import QatNetwork
from tests.quantizing import check_parity, fused, quantized

SHAPE = (3, 8, 8)


class Odd(nn.Module):
    """Functions without integers, one behind and beside the other; one of them clamps."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.volume = nn.Conv3d(1, 2, 3, padding=1)
        self.head = nn.Linear(8 * 64, 5)
        self.register_buffer("order", torch.tensor([2, 0, 1, 3]))

    def forward(self, x):
        x = self.conv(x)
        x = torch.where(x > x.cumsum(1), x, x.sort(-1)[0])
        x = x + torch.gather(x, 1, self.order.reshape(1, 4, 1, 1).expand(len(x), 4, 8, 8))
        return self.head(F.relu(self.volume(x.unsqueeze(1))).flatten(1))


@pytest.fixture(scope="module")
def graph():
    torch.manual_seed(0)
    return fused(Odd(), SHAPE)


@pytest.fixture(scope="module")
def x():
    return torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(1))


def islands(program):
    return [op.output for op in program.ops if op.op == "island"]


def test_simulation_and_program_agree_to_the_bit(graph, x):
    program = lower(quantized(graph, x), "float")
    assert len(islands(program)) == 3
    levels = check_parity(program, x)
    reals = dequantize_output(program, levels[program.output]).astype(np.float64)
    expected = execute(graph, x).double().numpy()
    assert sqnr_db(np.square(expected).sum(), np.square(reals - expected).sum()) > 20.0


def test_a_program_with_islands_is_the_same_from_disk(graph, x, tmp_path):
    model = QuantizedModel(quantized=quantized(graph, x, layers={"conv": "float", "add": "float"}))
    model.save(tmp_path)
    program = lower(QuantizedModel.load(tmp_path).quantized, "fixed_point")
    assert "add" in islands(program)
    saved = tmp_path / "program"
    saved.mkdir()
    IntegerProgram(program=program).save(saved)
    loaded = IntegerProgram.load(saved).program
    assert [op.attrs for op in loaded.ops] == [op.attrs for op in program.ops]
    before, after = check_parity(program, x), check_parity(loaded, x)
    np.testing.assert_array_equal(before[program.output], after[program.output])


def test_every_operator_may_stay_float(x):
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardswish(), nn.AvgPool2d(2), nn.Softmax(1), nn.Flatten())
    graph = fused(module, SHAPE)
    program = lower(quantized(graph, x, layers={"*": "float"}), "float")
    assert [op.op for op in program.ops] == ["float_conv2d", "island", "island", "island", "reshape"]
    check_parity(program, x)


def test_quantized_training_computes_what_the_program_does(graph, x):
    start = quantized(graph, x, layers={"add": "float"})
    quantizer = WeightsAndActivations(
        weight=Symmetric(bits=8, signed=True), activation=Affine(bits=8), layers={"add": "float"}
    )
    network = QatNetwork(graph, start, quantizer, Lsq())
    loss = network.train()(x).square().sum()
    loss.backward()
    assert network.layers["conv"].weight.grad.abs().sum() > 0
    program = lower(network.eval().quantized(), "float")
    assert "add" in islands(program)
    levels = check_parity(program, x)
    np.testing.assert_array_equal(
        network(x).detach().numpy(), dequantize_output(program, levels[program.output])
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("from_file.default", "no tensor from tensors"),
        ("relu_.default", "in place"),
        ("rand_like.default", "random"),
        ("lstm.input", "recurrent"),
        ("nosuch.default", "no operator"),
        ("cumsum.nosuch", "no operator"),
        ("__class__.default", "no operator"),
        ("item.default", "no tensor"),
    ],
)
def test_only_functions_of_tensors_are_computed(name, reason):
    with pytest.raises(RefusalError, match=reason):
        aten_function(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operator": "nosuch"}, "operator: valid: add, amax, amin, aten"),
        ({"attributes": {}}, "island of 'aten'"),
        ({"attributes": {"calls": (("relu_.default", (), (), None, (0, 1, 1)),)}}, "in place"),
        ({"attributes": {"calls": (("full.default", (("is", 3),), (), None, (0, 1, 1)),)}}, "no tensor"),
    ],
)
def test_a_damaged_island_is_refused(graph, x, change, message):
    program = lower(quantized(graph, x), "float")
    place = next(i for i, op in enumerate(program.ops) if op.op == "island")
    op = program.ops[place]
    bad = replace(op, attrs={**op.attrs, **change})
    with pytest.raises(ValueError, match=message):
        validate(replace(program, ops=(*program.ops[:place], bad, *program.ops[place + 1 :])))


def test_complex_numbers_stay_within_islands(x):
    class Mixing(nn.Module):
        """FNet's (Lee-Thorp et al. 2021), both parts of the spectrum used."""

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            spectrum = torch.fft.fft2(self.conv(x))
            return torch.relu(spectrum.real) + spectrum.imag

    program = lower(quantized(fused(Mixing(), SHAPE), x), "float")
    assert [op.op for op in program.ops] == ["conv2d", "island", "island", "add"]
    check_parity(program, x)
