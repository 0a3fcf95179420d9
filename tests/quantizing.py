"""A module as an integer program, calibrated on noise: what a run does, without a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stages.graph.calibrate import calibrate
from stages.graph.capture import capture
from stages.graph.execute import execute
from stages.graph.fold import fold_batch_norm
from stages.graph.fuse import fuse
from stages.graph.ir import Graph, Node
from stages.graph.points import quantization_points
from stages.graph.quantized import QuantizedGraph
from stages.graph.simulate import Simulation
from stages.integer.interpreter import Interpreter, quantize_input
from stages.integer.program import Integers, Program
from stages.integer.validate import validate
from stages.quant.calibrators.base import Calibration
from stages.quant.calibrators.minmax import MinMax
from stages.quant.granularity.per_channel import PerChannel
from stages.quant.quantizers.affine import Affine
from stages.quant.quantizers.base import WeightsAndActivations
from stages.quant.quantizers.symmetric import Symmetric
from stages.quant.statistics import Statistics


def fused(module: nn.Module, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Graph:
    """The network as it is quantized."""
    return fuse(fold_batch_norm(capture(module, shape, dtype=dtype)))


def quantized(
    graph: Graph,
    x: Tensor,
    layers: Mapping[str, Any] | None = None,
    residual_bits: int | None = None,
    scheme: WeightsAndActivations | None = None,
) -> QuantizedGraph:
    """The network with grids from what it computes of `x`: 8 bits, symmetric weights, affine activations.

    A `scheme` takes the place of those.
    """
    statistics: dict[str, Statistics] = {}
    points = set(quantization_points(graph))

    def record(node: Node, value: Tensor) -> Tensor:
        if node.name in points:
            statistics.setdefault(node.name, Statistics(histogram=False)).update(value.reshape(1, -1))
        return value

    with torch.inference_mode():
        execute(graph, x, record)
    quantizer = scheme or WeightsAndActivations(
        weight=Symmetric(bits=8, signed=True),
        activation=Affine(bits=8),
        layers=layers,
        residual_bits=residual_bits,
    )
    calibration = Calibration(activation=MinMax(), weight=MinMax())
    return calibrate(graph, statistics, quantizer, calibration, PerChannel())


def check_parity(program: Program, x: Tensor) -> dict[str, Integers]:
    """The levels of all values, which the simulation and the program both compute; raises unless they do."""
    validate(program)
    simulated = Simulation(program).trace(x)
    computed = Interpreter(program).trace(quantize_input(program, x.numpy()))
    np.testing.assert_equal(list(simulated), list(computed))
    for name, levels in simulated.items():
        np.testing.assert_array_equal(levels, computed[name], err_msg=name)
    return computed
