"""A float ONNX graph as a `torch.nn.Module`, which is then captured as any other network.

Each node is a module that bears the name of what it was exported from, as far as the file tells: the path of
``features.0.weight`` is ``features.0``, the node ``/features/0/Conv`` is ``features.0.Conv``. Weights of
layers and norms, and terms that are added, are parameters; other constants are buffers or plain numbers.
What a node computes is said by `stages.importers.onnx_file.functions`, a module a family of operators.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.errors import alternatives
from stages.importers.onnx_file.constants import ROLES, held, path_of, with_biases
from stages.importers.onnx_file.fold import FOLDED, LARGEST, fold
from stages.importers.onnx_file.functions import FUNCTIONS, Function
from stages.importers.onnx_file.functions.reading import Batch
from stages.importers.onnx_file.reading import MISFITS, OnnxGraph, OnnxNode
from stages.importers.onnx_file.tensors import Array

Operand = Tensor | Array | None

SHAPES = frozenset({"Shape", "Size"})
"""Operators that give numbers of any operand."""


class OnnxOperator(nn.Module):
    """One node with its constants.

    Args:
        node: of the file.
        function: what it computes.
        constants: by place; those of float are tensors of the module, others arrays.
        opset: the version of the operator.
        batch: samples a call, shared by all nodes.
    """

    def __init__(
        self,
        node: OnnxNode,
        function: Function,
        constants: Mapping[int, Tensor | Array],
        opset: int,
        batch: Batch,
    ) -> None:
        super().__init__()
        self.node, self.opset, self.batch = node, opset, batch
        self._function = function
        self._numbers: dict[int, Array] = {}
        self._names: dict[int, str] = {}
        roles = ROLES.get(node.op, ())
        for place, value in constants.items():
            if isinstance(value, np.ndarray):
                self._numbers[place] = value
                continue
            name = (roles[place] if place < len(roles) else "") or f"constant_{place}"
            self._names[place] = name
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value)

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.attrs.get(name, default)

    def constant(self, place: int) -> bool:
        """Whether the operand at a place is a constant."""
        return place in self._names or place in self._numbers

    def operands(self, given: Sequence[Operand]) -> list[Operand]:
        """What was computed, and the constants in their places."""
        operands = list(given)
        for place, number in self._numbers.items():
            operands[place] = number
        for place, name in self._names.items():
            operands[place] = cast(Tensor, getattr(self, name))
        while operands and operands[-1] is None:
            operands.pop()
        return operands

    def forward(self, *operands: Operand) -> Any:
        """The node's first result, or a tuple of all."""
        return self._function(self, *operands)


class OnnxNetwork(nn.Module):
    """The graph, (N, *shape) float32 or int64 to its outputs: a tensor, or a dictionary where there are more.

    Args:
        graph: of floats; a quantized one is a program.

    Raises:
        ValueError: an operator that is not known, or constants that it does not take; names it.
    """

    def __init__(self, graph: OnnxGraph) -> None:
        super().__init__()
        self._inputs = tuple(one.name for one in graph.inputs)
        self._outputs = graph.outputs
        self._opset = graph.opset
        shapes = [one.shape for one in graph.inputs if one.shape]
        fixed = shapes[0][0] if shapes and all(s[0] == shapes[0][0] for s in shapes) else None
        self._batch = Batch(fixed)
        values: dict[str, Array] = dict(graph.constants)
        self._steps: list[tuple[OnnxNode, str]] = []
        shared: dict[tuple[str, str], Tensor] = {}
        paths: Counter[str] = Counter()
        nodes = with_biases(graph)
        reads_input = {one.name for one in graph.inputs}
        for node in nodes:
            operands = [values.get(name) for name in node.inputs]
            if node.op in SHAPES or reads_input.intersection(node.inputs):
                reads_input.update(node.outputs)
            elif all(name in values for name in node.inputs if name):
                values.update(zip(node.outputs, fold(node, operands, graph.opset), strict=False))
                continue
            if node.op not in FUNCTIONS and node.op not in FOLDED:
                raise ValueError(
                    f"{node}: this operator is not read. Remedy: a network without it; "
                    f"{alternatives(node.op, FUNCTIONS)}"
                )
            constants = {
                place: held(node, place, name, value, shared)
                for place, (name, value) in enumerate(zip(node.inputs, operands, strict=True))
                if value is not None
            }
            path = path_of(node, graph)
            paths[path] += 1
            path = path if paths[path] == 1 else f"{path}_{paths[path]}"
            function = FUNCTIONS.get(node.op, _beforehand)
            operator = OnnxOperator(node, function, constants, graph.opset, self._batch)
            _place(self, path, operator)
            self._steps.append((node, path))
        self._constants = {name: values[name] for name in graph.outputs if name in values}

    def forward(self, *given: Tensor, **named: Tensor) -> Any:
        """Each node in turn. Raises ValueError, naming the node, for operands that it does not take."""
        values: dict[str, Operand] = {**dict(zip(self._inputs, given, strict=False)), **named}
        self._batch.samples = len(next(iter(values.values())) if values else ())  # type: ignore[arg-type]
        for node, path in self._steps:
            operator = cast(OnnxOperator, self.get_submodule(path))
            operands = operator.operands([values.get(name) for name in node.inputs])
            constant = node.op not in SHAPES and not any(isinstance(x, Tensor) for x in operands)
            try:
                results = fold(node, cast(Any, operands), self._opset) if constant else operator(*operands)
            except MISFITS as error:
                text = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise ValueError(text if text.startswith(str(node)) else f"{node}: {text}") from error
            results = results if isinstance(results, tuple | list) else (results,)
            for name, result in zip(node.outputs, results, strict=False):
                if isinstance(result, Tensor) and result.numel() > LARGEST * max(result.shape[:1], default=1):
                    raise ValueError(
                        f"{node}: gives {list(result.shape)}, too large; the file may be damaged"
                    )
                values[name] = result
        outputs = {name: _tensor(values.get(name, self._constants.get(name))) for name in self._outputs}
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def check(self, inputs: Mapping[str, tuple[tuple[int, ...], torch.dtype]], samples: int = 2) -> None:
        """Follow shapes through all nodes, without memory for their values.

        Raises:
            ValueError: operands that an operator does not take, or a result that is too large; names it.
        """
        with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
            self(**{n: torch.empty(samples, *shape, dtype=dtype) for n, (shape, dtype) in inputs.items()})


def _beforehand(op: OnnxOperator, *operands: Operand) -> Any:
    raise ValueError("depends on the input's values. Remedy: export the network with constants, or onnxsim")


def _tensor(value: Operand) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _place(root: nn.Module, path: str, operator: nn.Module) -> None:
    """Put an operator where its path says; what lies below that path stays."""
    *folders, name = path.split(".")
    module = root
    for folder in folders:
        if folder not in module._modules:
            module.add_module(folder, nn.Module())
        module = cast(nn.Module, module._modules[folder])
    there = module._modules.get(name)
    for child, below in list(there.named_children()) if there is not None else []:
        operator.add_module(child, below)
    module.add_module(name, operator)
