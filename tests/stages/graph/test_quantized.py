"""Quantized graphs: the levels that simulation and program hold, and their way to disk and back."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.errors import PipelineError
from stages.artifacts import QuantizedModel
from stages.graph.execute import execute
from stages.graph.ir import Graph, Node
from stages.graph.lower import lower
from stages.graph.quantized import QuantizedGraph
from stages.graph.simulate import Simulation, WeightsOnly
from stages.integer.interpreter import Interpreter
from stages.quant.qparams import QParams, quantize


def unit() -> QParams:
    return QParams(scale=torch.tensor(1.0), zero_point=torch.tensor(0), quant_min=-127, quant_max=127)


@pytest.fixture
def quantized() -> QuantizedGraph:
    """A linear layer of 3 inputs and 2 outputs on a grid of step 1."""
    nodes = (
        Node(name="x", op="input", shape=(3,)),
        Node(name="fc", op="linear", inputs=("x",), params={"weight": "fc.weight"}, shape=(2,)),
    )
    params = {"fc.weight": torch.tensor([[0.4, 1.6, -2.2], [3.0, -0.6, 0.1]])}
    graph = Graph(nodes=nodes, params=params, output="fc")
    return QuantizedGraph(graph=graph, activations={"x": unit(), "fc": unit()}, weights={"fc": unit()})


def test_levels_are_the_nearest_where_none_were_chosen(quantized):
    node = quantized.graph["fc"]
    assert torch.equal(quantized.integer_weight(node), quantize(quantized.graph.params["fc.weight"], unit()))


def test_simulation_and_program_hold_the_chosen_levels(quantized):
    chosen = torch.tensor([[1, 1, -3], [3, 0, 1]], dtype=torch.int8)  # some a step away from the nearest
    quantized = replace(quantized, levels={"fc": chosen})
    (op,) = lower(quantized, "float").ops
    assert torch.equal(torch.from_numpy(op.tensors["weight"]), chosen)
    x = torch.tensor([[1.0, 2.0, 3.0]])
    expected = execute(quantized.graph.with_params({"fc.weight": chosen.float()}), x)
    assert torch.equal(Simulation(lower(quantized, "float"))(x), expected)


def test_levels_survive_saving(quantized, tmp_path):
    chosen = torch.tensor([[1, 1, -3], [3, 0, 1]], dtype=torch.int8)
    QuantizedModel(quantized=replace(quantized, levels={"fc": chosen})).save(tmp_path)
    loaded = QuantizedModel.load(tmp_path).quantized
    assert loaded.levels.keys() == {"fc"} and torch.equal(loaded.levels["fc"], chosen)
    assert loaded.levels["fc"].dtype == torch.int8


def test_a_layer_without_a_grid_stays_float(quantized):
    """Levels in, levels out, real weights between; simulation and program agree."""
    quantized = replace(quantized, weights={}, biases={"fc": torch.tensor([0.25, -0.5])})
    program = lower(quantized, "float")
    (op,) = program.ops
    assert op.op == "float_linear" and op.tensors["weight"].dtype == np.float32
    x = torch.tensor([[1.0, 2.0, 3.0], [-7.0, 50.0, 9.0]])
    simulated = Simulation(program)(x)
    assert torch.equal(
        simulated, torch.round(x @ quantized.graph.params["fc.weight"].T + quantized.biases["fc"])
    )
    assert (Interpreter(program).run(x.numpy().astype(np.int8)) == simulated.numpy()).all()


def test_scales_of_groups_survive_saving(quantized, tmp_path):
    grid = replace(unit(), scale=torch.rand(2, 3), zero_point=torch.zeros(2, 3), ch_axis=0, group_size=1)
    QuantizedModel(quantized=replace(quantized, weights={"fc": grid})).save(tmp_path)
    loaded = QuantizedModel.load(tmp_path).quantized.weights["fc"]
    assert torch.equal(loaded.scale, grid.scale) and loaded.group_size == 1


def test_float_activations_are_simulated_with_weights_rounded_alone(quantized):
    quantized = replace(quantized, activations={}, biases={"fc": torch.tensor([0.25, -0.5])})
    rounded = torch.tensor([[0.0, 2.0, -2.0], [3.0, -1.0, 0.0]])
    x = torch.tensor([[1.3, 2.1, -700.7]])
    assert torch.equal(WeightsOnly(quantized)(x), x @ rounded.T + quantized.biases["fc"])


def test_float_activations_have_no_integer_program(quantized):
    message = r"'x' stays float \(quantizer\.activation=null\).*Remedy: backend=simulation"
    with pytest.raises(PipelineError, match=message):
        lower(replace(quantized, activations={}), "float")
