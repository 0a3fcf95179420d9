"""From a `torch.nn.Module` to a `Graph`, through ``torch.export``.

The module is exported in evaluation mode with a dynamic batch dimension; each ATen call becomes a node, a
chain of them or none (`stages.graph.aten` says how). Calls that have no place in the vocabulary are collected
and refused together, each with its operator, module path and remedy. The result is then run beside the module
on random input, so that a graph that computes something else never leaves this function.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import getitem
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import PipelineError
from stages.graph.aten.call import PREVIOUS, Call, Param, Ref, Translation
from stages.graph.aten.shapes import PARTS
from stages.graph.aten.table import TRANSLATIONS
from stages.graph.execute import execute
from stages.graph.ir import Graph, Node

TOLERANCE = 1e-3
"""Largest difference between module and graph, relative to the largest output."""

UNSUPPORTED = ""
"""Stands for the value of a refused call, so that the walk goes on and finds the others."""


def capture(module: nn.Module, shape: tuple[int, ...]) -> Graph:
    """Capture `module`, which maps (N, *shape) float32 to one tensor (N, …), as a graph.

    Parameters are copied; the module is left in the mode it was in. Python's branches on ``self.training``
    are taken as in evaluation. What training does otherwise is kept for quantized training: dropout, the
    momentum of BatchNorm, which parameters are frozen, and which layers share one.

    Raises:
        PipelineError: an operator outside the vocabulary, control flow that depends on data, several
            inputs or outputs, or a graph that does not reproduce the module.
    """
    training = module.training
    module.eval()
    try:
        exported = _export(module, shape)
        graph = _cumulative(module, _Translation(exported).graph())
        _verify(module, graph, shape)
    finally:
        module.train(training)
    return graph


def _export(module: nn.Module, shape: tuple[int, ...]) -> torch.export.ExportedProgram:
    example = torch.zeros(2, *shape)
    batch = torch.export.Dim("batch", min=1)
    exporter = logging.getLogger("torch.export")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    except Exception as error:  # torch.export raises many types; all mean "not traceable"
        reason = str(error).strip().splitlines()
        raise PipelineError(
            f"{type(module).__name__} cannot be traced by torch.export on input {('N', *shape)}: "
            f"{type(error).__name__}: {reason[0] if reason else ''}\n"
            "Remedy: keep forward() free of Python control flow that depends on tensor values, "
            "and of fixed batch sizes."
        ) from error
    finally:
        exporter.setLevel(level)


def _cumulative(module: nn.Module, graph: Graph) -> Graph:
    """Mark the BatchNorms whose statistics are the mean of all batches: traced, they have momentum 0."""
    averaging = {
        name: int(norm.num_batches_tracked or 0)
        for name, norm in module.named_modules(remove_duplicate=False)
        if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.momentum is None
    }
    nodes = (
        replace(node, attrs={**node.attrs, "momentum": None, "batches": averaging[node.module]})
        if node.op == "batch_norm" and node.module in averaging
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _verify(module: nn.Module, graph: Graph, shape: tuple[int, ...]) -> None:
    """Raise unless graph and module agree on random input."""
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = module(x)
        actual = execute(graph, x)
    if not torch.isfinite(expected).all():
        raise PipelineError(
            f"{type(module).__name__} gives NaN or infinity on standard normal input; check its weights."
        )
    error = (actual - expected).abs().max().item()
    if error > TOLERANCE * max(1.0, expected.abs().max().item()):
        raise PipelineError(
            f"The captured graph of {type(module).__name__} differs from the module by {error:.3g}. "
            "Remedy: avoid in-place changes of tensors that are read again through a view."
        )


@dataclass
class _Translation:
    """The walk over an exported program's calls."""

    exported: torch.export.ExportedProgram
    nodes: list[Node] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # fx node -> value in the graph
    params: dict[str, Tensor] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def graph(self) -> Graph:
        self._parameters()
        for fx_node in self.exported.graph.nodes:
            if fx_node.op == "call_function":
                self._call(fx_node)
        if self.problems:
            lines = "\n".join(f"  {problem}" for problem in dict.fromkeys(self.problems))
            raise PipelineError(
                f"The model has operators that cannot become integers:\n{lines}\n"
                f"Supported: {', '.join(sorted({*TRANSLATIONS, *PARTS}))}."
            )
        outputs = next(n for n in self.exported.graph.nodes if n.op == "output").args[0]
        if len(outputs) != 1:
            raise PipelineError(f"The model returns {len(outputs)} tensors; the pipeline needs exactly one.")
        output = self.names[outputs[0].name]
        nodes = _used(self.nodes, output)
        keys = {key for node in nodes for key in node.params.values()}
        return Graph(
            nodes=nodes,
            params={key: self.params[key] for key in self.params if key in keys},
            output=output,
            frozen=frozenset(key for key in keys if not self._trained(key)),
        )

    def _trained(self, key: str) -> bool:
        """Whether training in float moves a parameter, or the one that it was derived from."""
        while key not in self.exported.state_dict and ":" in key:
            key = key.rpartition(":")[0]
        tensor = self.exported.state_dict.get(key)  # constants are not in it, and buffers need no gradient
        return tensor is not None and tensor.requires_grad

    def _parameters(self) -> None:
        signature = self.exported.graph_signature
        stored = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        tensors: Mapping[str, Any] = {**self.exported.constants, **self.exported.state_dict}
        lifted = signature.inputs_to_lifted_tensor_constants
        self._keys: dict[str, str] = {**stored, **lifted}
        self.params = {key: tensors[key].detach().clone() for key in self._keys.values() if key in tensors}
        for fx_node in self.exported.graph.nodes:
            if fx_node.op == "placeholder" and fx_node.name not in self._keys:
                shape = tuple(fx_node.meta["val"].shape[1:])
                self.nodes.append(Node(name="input", op="input", shape=shape))
                self.names[fx_node.name] = "input"

    def _call(self, fx_node: torch.fx.Node) -> None:
        value = fx_node.meta.get("val")
        if not isinstance(value, Tensor):
            return  # symbolic sizes, and several values at once: shapes are read off the traced values
        source: torch.fx.Node = fx_node
        if fx_node.target is getitem and isinstance(fx_node.args[0], torch.fx.Node):  # one of several values
            source = fx_node.args[0]
        operator = str(source.target).removeprefix("aten.")
        base = operator.split(".")[0]
        path = _module_path(fx_node)
        where = f"{base} in {path or 'the root module'}"
        translate = TRANSLATIONS.get(base.removesuffix("_"))
        if source is not fx_node:
            translate = _part(base, int(str(fx_node.args[1])))
        if translate is None:
            self.problems.append(f"{where}: no integer form; replace it by supported operators")
            self.names[fx_node.name] = UNSUPPORTED
            return
        call = Call(
            overload=operator,
            args=tuple(self._argument(a) for a in source.args),
            kwargs={k: self._argument(v) for k, v in source.kwargs.items()},
            shape=tuple(int(d) for d in value.shape[1:]) if _static(value.shape[1:]) else (),
            nodes={node.name: node for node in self.nodes},
            params=self.params,
        )
        try:
            if not _static(value.shape[1:]) or _static(value.shape[:1]):
                raise ValueError("the first dimension must stay the batch, and only it may vary")
            result = translate(call)
        except ValueError as problem:
            if Ref(UNSUPPORTED) not in call.args:  # else it only follows from what was said before
                self.problems.append(f"{where}: {problem}")
            self.names[fx_node.name] = UNSUPPORTED
            return
        # a name is an alias: dropout in evaluation mode, a reshape that changes nothing
        name = result if isinstance(result, str) else self._append(result, call.shape, path, fx_node)
        self.names[fx_node.name] = name
        if base.endswith("_") and isinstance(fx_node.args[0], torch.fx.Node):
            self.names[fx_node.args[0].name] = name  # in place: later readers see the new value

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            if argument.name in self._keys:
                return Param(self._keys[argument.name], self.params[self._keys[argument.name]])
            if argument.name in self.names:
                return Ref(self.names[argument.name])
            return None  # a symbolic size
        if isinstance(argument, list | tuple):
            return tuple(self._argument(a) for a in argument)
        return argument

    def _append(
        self, result: Node | tuple[Node, ...], shape: tuple[int, ...], path: str, fx_node: torch.fx.Node
    ) -> str:
        """Name the node, or each of a chain, and add it; returns the name of the last."""
        chain = (result,) if isinstance(result, Node) else result
        name = ""
        for position, node in enumerate(chain):
            last = position == len(chain) - 1
            inputs = tuple(name if i == PREVIOUS else i for i in node.inputs or (PREVIOUS,))
            name = self._unique(path, fx_node, suffix="" if last else f".{node.op}")
            shape_here = shape if last else node.shape
            self.nodes.append(replace(node, name=name, inputs=inputs, shape=shape_here, module=path))
        return name

    def _unique(self, path: str, fx_node: torch.fx.Node, suffix: str) -> str:
        """The module's path where the call is a leaf module's own, else the path and the call's name."""
        stack = list(fx_node.meta.get("nn_module_stack", {}).values())
        leaf = bool(path) and "torch.nn.modules" in str(stack[-1][1])
        base = (path if leaf else f"{path}.{fx_node.name}".lstrip(".")) + suffix
        taken = {node.name for node in self.nodes}
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}:{count}"
        return name


def _part(base: str, index: int) -> Translation | None:
    """The translation of one of several values that a call gives."""
    return None if base not in PARTS else lambda call: PARTS[base](call, index)


def _used(nodes: Sequence[Node], output: str) -> tuple[Node, ...]:
    """The input, and what the output depends on."""
    needed = {output}
    for node in reversed(nodes):
        if node.name in needed:
            needed |= set(node.inputs)
    return tuple(node for node in nodes if node.op == "input" or node.name in needed)


def _module_path(fx_node: torch.fx.Node) -> str:
    stack = list(fx_node.meta.get("nn_module_stack", {}).values())
    path = str(stack[-1][0]) if stack else ""
    return "" if path.startswith("_empty_nn_module_stack") else path.removeprefix("L['self'].")


def _static(dims: Any) -> bool:
    return all(isinstance(d, int) for d in dims)
