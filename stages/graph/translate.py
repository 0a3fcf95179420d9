"""From an exported program to a graph, call by call.

What reads no sample is computed (`stages.graph.aten.constants`). Of the other calls each becomes a node, a
chain of them or none (`stages.graph.aten.table`); one that has no integer form of its own is taken apart
where all it is made of has one (`stages.graph.aten.composites`), or becomes an island of float
(`stages.graph.aten.islands`). What cannot be taken at all is collected, and refused together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from operator import getitem
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from stages.graph.aten.batch import Placement
from stages.graph.aten.call import PREVIOUS, Call, Ref, Translation
from stages.graph.aten.composites import taken_apart
from stages.graph.aten.constants import FILLED, SHAPED, Constant, Constants
from stages.graph.aten.islands import island
from stages.graph.aten.refusal import RefusalError
from stages.graph.aten.shapes import RESHAPES
from stages.graph.aten.table import PARTS, TRANSLATIONS
from stages.graph.ir import Graph, Node

SPATIAL = frozenset(
    {"conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "max_pool1d", "max_pool2d", "avg_pool1d"}
    | {"avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "pixel_shuffle"}
)
"""Functions whose integer form is over images (C, H, W), or rows (C, L), with the batch before them."""


class _Refused:
    """The value of a refused call: the walk goes on, and finds the others."""


_REFUSED = _Refused()


def translate(exported: torch.export.ExportedProgram, batch: int, output: int) -> Graph:
    """The graph of a program that was exported with a batch of `batch`.

    Args:
        exported: of one input.
        batch: the size of the batch, a prime that no other dimension is a multiple of.
        output: which of its results, flattened, is the graph's.

    Raises:
        PipelineError: calls that no graph can hold, all of them, each with module path and reason.
    """
    return _Walk(exported=exported, batch=batch).graph(output)


@dataclass(kw_only=True)
class _Walk:
    exported: torch.export.ExportedProgram
    batch: int
    nodes: dict[str, Node] = field(default_factory=dict)
    values: dict[torch.fx.Node, Any] = field(default_factory=dict)  # Ref, Constant, tuples of them, numbers
    params: dict[str, Tensor] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def graph(self, output: int) -> Graph:
        self._placeholders()
        results = self._walk(self.exported.graph_module)
        value = results[output]
        if not self.problems and not isinstance(value, Ref):
            self.problems.append("the result: does not depend on the input")
        if not self.problems and not value.layout.first:
            self.problems.append("the result: its first dimension is not the batch")
        if self.problems:
            lines = "\n".join(f"  {problem}" for problem in dict.fromkeys(self.problems))
            raise PipelineError(f"The model cannot be taken as it is:\n{lines}")
        nodes = _used(self.nodes, value.name)
        keys = {key for node in nodes for key in node.params.values()}
        return Graph(
            nodes=nodes,
            params={key: tensor.clone() for key, tensor in self.params.items() if key in keys},
            output=value.name,
            frozen=frozenset(key for key in keys if not self._trained(key)),
        )

    def _trained(self, key: str) -> bool:
        """Whether training in float moves a parameter, or one that it was made from."""
        while key not in self.constants.trained and ":" in key:
            key = key.rpartition(":")[0]
        return key in self.constants.trained

    def _placeholders(self) -> None:
        signature = self.exported.graph_signature
        keys = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        tensors: Mapping[str, Any] = {**self.exported.constants, **self.exported.state_dict}
        trained = {key for key, tensor in self.exported.state_dict.items() if tensor.requires_grad}
        self.constants = Constants(batch=self.batch, params=self.params, trained=trained)
        stored: dict[str, Constant] = {}
        for fx_node in self.exported.graph.nodes:
            if fx_node.op != "placeholder":
                continue
            if (key := keys.get(fx_node.name)) is not None:
                own = Constant(key=key, tensor=tensors[key].detach().clone())
                self.values[fx_node] = stored.setdefault(key, own)
            elif isinstance(traced := fx_node.meta.get("val"), Tensor):
                layout = Placement.of(traced.shape, self.batch)
                self.nodes["input"] = Node(name="input", op="input", shape=layout.sample)
                self.values[fx_node] = Ref("input", layout, traced.dtype)

    def _walk(self, module: torch.fx.GraphModule) -> list[Any]:
        """The values of what a graph, the program's or one within it, gives."""
        for fx_node in module.graph.nodes:
            if fx_node.op == "output":
                return [self._argument(item) for item in torch.utils._pytree.tree_leaves(fx_node.args[0])]
            if fx_node.op == "get_attr":
                target = getattr(module, fx_node.target)
                own = Constant(key=fx_node.target, tensor=target) if isinstance(target, Tensor) else target
                self.values[fx_node] = own
            elif fx_node.op == "call_function":
                self.values[fx_node] = self._call(fx_node)
        return []

    def _call(self, fx_node: torch.fx.Node) -> Any:
        if fx_node.target is getitem and isinstance(parts := self._argument(fx_node.args[0]), tuple | list):
            return parts[int(str(fx_node.args[1]))]
        if isinstance(fx_node.target, torch._ops.HigherOrderOperator):
            return self._inlined(fx_node)
        source = fx_node
        if fx_node.target is getitem and isinstance(fx_node.args[0], torch.fx.Node):  # one of several values
            source = fx_node.args[0]
        args = [self._argument(argument) for argument in source.args]
        kwargs = {name: self._argument(argument) for name, argument in source.kwargs.items()}
        leaves = torch.utils._pytree.tree_leaves((args, kwargs))
        if any(isinstance(leaf, _Refused) for leaf in leaves):
            return _REFUSED  # it only follows from what was said before
        overload = str(source.target).removeprefix("aten.")
        base = overload.split(".")[0]
        where = f"{base} in {_module_path(fx_node) or 'the root module'}"
        try:
            traced = fx_node.meta.get("val")
            path = f"{_module_path(fx_node)}.{fx_node.name}".lstrip(".")
            if base in FILLED and isinstance(traced, Tensor):
                return self.constants.filled(base, args, traced, path)
            if base in SHAPED and isinstance(args[0], Constant) and isinstance(traced, Tensor):
                return self.constants.compute(SHAPED[base], [args[0], list(traced.shape)], {}, path)
            if not any(isinstance(leaf, Ref) for leaf in leaves):
                target: Any = source.target
                return self.constants.compute(target, args, kwargs, path)
            if not isinstance(traced, Tensor):  # several values at once, each of which is asked for, or none
                return None if base in PARTS else self._apart(fx_node, overload)
            return self._translated(fx_node, source, overload, traced)
        except RefusalError as refusal:
            self.problems.append(f"{where}: {refusal}")
            return _REFUSED

    def _translated(
        self, fx_node: torch.fx.Node, source: torch.fx.Node, overload: str, traced: Tensor
    ) -> Ref:
        """One call that reads values, translated, or as an island."""
        base = _pure(overload.split(".")[0])
        args = tuple(self._as_operand(argument) for argument in source.args)
        kwargs = {name: self._as_operand(argument) for name, argument in source.kwargs.items()}
        refs = [a for a in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(a, Ref)]
        if not all(isinstance(size, int) for size in traced.shape):
            raise RefusalError(
                "has a size that depends on values. Index by numbers, x[:, [0, 2]], not by truth values"
            )
        if base in RESHAPES:
            layout = refs[0].layout.reshaped(traced.shape)
        else:
            layout = Placement.of(traced.shape, self.batch, [ref.layout for ref in refs])
        path = _module_path(fx_node)
        call = Call(
            overload=overload,
            args=args,
            kwargs=kwargs,
            layout=layout,
            dtype=traced.dtype,
            nodes=self.nodes,
            params=self.params,
            emit=partial(self._append, path=path, fx_node=fx_node),
        )
        part = None if source is fx_node else int(str(fx_node.args[1]))
        translation = TRANSLATIONS.get(base) if part is None else _part(base, part)
        before = len(self.nodes)
        try:
            if translation is None:
                raise ValueError("has no integer form")
            if any(ref.dtype.is_complex for ref in refs):
                raise ValueError("computes with complex numbers")
            if base in SPATIAL and not refs[0].layout.first:
                raise ValueError("works on windows that are merged with the batch")
            result = translation(call)
        except RefusalError:
            raise
        except ValueError as why:
            for name in list(self.nodes)[before:]:
                del self.nodes[name]
            # the function that gives a new tensor stands for the one that changes its argument
            function = ".".join((base, *overload.split(".")[1:]))
            apart = self._apart(source, function) if part is None else None
            result = (
                apart.name
                if isinstance(apart, Ref)
                else island(
                    function, args, kwargs, part=part, layout=layout, dtype=traced.dtype, why=str(why)
                )
            )
        if isinstance(result, Node):
            result = (result,)
        # a name is an alias: dropout in evaluation mode, a reshape that changes nothing
        name = result if isinstance(result, str) else self._chain(result, layout.sample, path, fx_node)
        value = Ref(name, layout, traced.dtype)
        in_place = base != overload.split(".")[0]
        if in_place and isinstance(fx_node.args[0], torch.fx.Node):
            self.values[fx_node.args[0]] = value  # in place: later readers see the new value
        return value

    def _apart(self, fx_node: torch.fx.Node, function: str) -> Any:
        """What a call is made of, in its place; None unless every part has an integer form."""
        module = taken_apart(fx_node, function)
        if module is None:
            return None
        nodes, problems = dict(self.nodes), list(self.problems)
        given = torch.utils._pytree.tree_leaves((fx_node.args, fx_node.kwargs))
        outer = [leaf for leaf in given if isinstance(leaf, torch.fx.Node)]
        inner = [own for own in module.graph.nodes if own.op == "placeholder"]
        self.values.update({own: self.values[node] for own, node in zip(inner, outer, strict=True)})
        results = self._walk(module)
        islands = [name for name, node in self.nodes.items() if node.op == "aten" and name not in nodes]
        if islands or not all(isinstance(own, Ref) for own in results):
            self.nodes, self.problems = nodes, problems
            return None
        return results[0] if isinstance(fx_node.meta.get("val"), Tensor) else tuple(results)

    def _inlined(self, fx_node: torch.fx.Node) -> Any:
        """A region under ``no_grad`` or ``autocast``: as if its calls stood outside."""
        args = [self._argument(argument) for argument in fx_node.args]
        place = next((i for i, own in enumerate(args) if isinstance(own, torch.fx.GraphModule)), None)
        if place is None or not str(fx_node.target).startswith("wrap"):
            self.problems.append(f"{fx_node.target}: control flow that depends on values")
            return _REFUSED
        region: torch.fx.GraphModule = args[place]
        inner = [own for own in region.graph.nodes if own.op == "placeholder"]
        self.values.update(zip(inner, args[place + 1 :], strict=True))
        return tuple(self._walk(region))

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, torch.fx.Node):
            return self.values[argument]
        if isinstance(argument, list | tuple):
            return type(argument)(self._argument(item) for item in argument)
        return argument

    def _as_operand(self, argument: Any) -> Any:
        """An argument as translations see it."""
        if isinstance(argument, list | tuple):
            return tuple(self._as_operand(item) for item in argument)
        value = self._argument(argument)
        if isinstance(value, Constant):
            traced = argument.meta.get("val") if isinstance(argument, torch.fx.Node) else None
            return self.constants.param(value, traced.shape if isinstance(traced, Tensor) else None)
        return value

    def _chain(
        self, chain: tuple[Node, ...], shape: tuple[int, ...], path: str, fx_node: torch.fx.Node
    ) -> str:
        """Add the nodes, of which each reads the one before; returns the name of the last."""
        name = ""
        for position, node in enumerate(chain):
            last = position == len(chain) - 1
            inputs = tuple(name if i == PREVIOUS else i for i in node.inputs or (PREVIOUS,))
            own = replace(node, inputs=inputs, shape=shape if last else node.shape)
            name = self._append(own, path=path, fx_node=fx_node, suffix="" if last else f".{node.op}")
        return name

    def _append(self, node: Node, *, path: str, fx_node: torch.fx.Node, suffix: str | None = None) -> str:
        """Add a node under a name of its own: the path of the module whose call it is, or path and call."""
        stack = list(fx_node.meta.get("nn_module_stack", {}).values())
        leaf = bool(path) and "torch.nn.modules" in str(stack[-1][1])
        suffix = f".{node.op}" if suffix is None else suffix
        base = (path if leaf else f"{path}.{fx_node.name}".lstrip(".")) + suffix
        name, count = base, 1
        while name in self.nodes:
            count += 1
            name = f"{base}:{count}"
        self.nodes[name] = replace(node, name=name, module=path)
        return name


def _part(base: str, index: int) -> Translation | None:
    """The translation of one of several values that a call gives."""
    return None if base not in PARTS else lambda call: PARTS[base](call, index)


def _pure(base: str) -> str:
    """The function that gives a new tensor, by the name of it or of the one that changes its argument."""
    return base if base.endswith("__") else base.removesuffix("_")


def _used(nodes: Mapping[str, Node], output: str) -> tuple[Node, ...]:
    """The input, and what the output depends on."""
    needed = {output}
    for name in reversed(list(nodes)):
        if name in needed:
            needed |= set(nodes[name].inputs)
    return tuple(node for node in nodes.values() if node.op == "input" or node.name in needed)


def _module_path(fx_node: torch.fx.Node) -> str:
    stack = list(fx_node.meta.get("nn_module_stack", {}).values())
    path = str(stack[-1][0]) if stack else ""
    return "" if path.startswith("_empty_nn_module_stack") else path.removeprefix("L['self'].")
