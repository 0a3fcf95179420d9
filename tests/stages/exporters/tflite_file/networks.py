"""A small convolutional network as TFLite can say it, and what a file holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from stages.exporters.tflite_file.model import TfliteModel
from stages.integer.fixed_point import quantize_multiplier
from stages.integer.program import Op, Program, Value

NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


def value(name: str, shape: tuple[int, ...], scale: float = 0.0625, zero_point: int = 0) -> Value:
    return Value(name=name, shape=shape, scale=scale, zero_point=zero_point, quant_min=-128, quant_max=127)


def layer(op: str, x: Value, y: Value, weight_shape: tuple[int, ...], attrs: Mapping[str, Any]) -> Op:
    """A layer with random weights, a scale a channel."""
    rng = np.random.default_rng(weight_shape[0])
    scale = rng.uniform(0.005, 0.01, weight_shape[0]).astype(np.float32)
    ratio = x.scale * scale.astype(np.float64) / y.scale
    multiplier, shift = quantize_multiplier(ratio)
    tensors = {
        "weight": rng.integers(-127, 128, weight_shape).astype(np.int8),
        "weight_scale": scale,
        "weight_zero_point": np.zeros(len(scale), np.int32),
        "bias": rng.integers(-500, 500, len(scale)).astype(np.int32),
        "multiplier": multiplier,
        "shift": shift,
        "ratio": ratio.astype(np.float32),
    }
    bounds = {"act_min": -128, "act_max": 127}
    return Op(op=op, inputs=(x.name,), output=y.name, attrs={**bounds, **attrs}, tensors=tensors)


def convolution(x: Value, y: Value, groups: int = 1, stride: int = 1, **attrs: Any) -> Op:
    """3×3, padded by 1."""
    given = {"stride": (stride, stride), "padding": (1, 1), "dilation": (1, 1), "groups": groups}
    return layer("conv2d", x, y, (y.shape[0], x.shape[0] // groups, 3, 3), {**given, **attrs})


def convolutional(requantize: Any = "fixed_point") -> Program:
    """conv, depthwise conv, max pool, flatten, linear."""
    x, a, b = (
        value("x", (3, 8, 8), zero_point=3),
        value("a", (8, 8, 8), 0.125, -5),
        value("b", (8, 4, 4), 0.125),
    )
    p, f, y = value("p", (8, 2, 2), 0.125), value("f", (32,), 0.125), value("y", (10,), 0.25, 2)
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "ceil_mode": False}
    ops = (
        convolution(x, a, act_min=-5),
        convolution(a, b, groups=8, stride=2),
        Op(op="max_pool2d", inputs=("b",), output="p", attrs=pool),
        Op(op="reshape", inputs=("p",), output="f", attrs={"shape": (32,)}),
        layer("linear", f, y, (10, 32), {}),
    )
    values = {one.name: one for one in (x, a, b, p, f, y)}
    return Program(values=values, ops=ops, input="x", output="y", requantize=requantize)


@dataclass(frozen=True, kw_only=True)
class Read:
    """A file as the schema reads it."""

    model: Any

    @classmethod
    def of(cls, model: TfliteModel | bytes) -> Read:
        data = model if isinstance(model, bytes) else model.data
        return cls(model=schema.ModelT.InitFromObj(schema.Model.GetRootAs(data)))

    @property
    def graph(self) -> Any:
        (graph,) = self.model.subgraphs
        return graph

    @property
    def operators(self) -> list[str]:
        return [NAMES[self.model.operatorCodes[op.opcodeIndex].builtinCode] for op in self.graph.operators]

    def options(self, code: str) -> Any:
        """The options of the only operator of a kind."""
        (index,) = (i for i, name in enumerate(self.operators) if name == code)
        return self.graph.operators[index].builtinOptions

    def tensor(self, name: str) -> Any:
        (found,) = (tensor for tensor in self.graph.tensors if tensor.name == name.encode())
        return found

    @property
    def metadata(self) -> dict[str, str]:
        return {
            entry.name.decode(): bytes(self.model.buffers[entry.buffer].data).decode()
            for entry in self.model.metadata
        }
