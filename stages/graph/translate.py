"""From an exported program to a graph, call by call.

What reads no sample is computed (`stages.graph.aten.constants`). Of the other calls each becomes a node, a
chain of them or none (`stages.graph.aten.table`); one that has no integer form of its own is taken apart
where all it is made of has one (`stages.graph.aten.composites`), or becomes an island of float
(`stages.graph.aten.islands`). What cannot be taken at all is collected, and refused together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import getitem
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import PipelineError
from stages.graph.aten.batch import Placement
from stages.graph.aten.call import PREVIOUS, Call, Ref
from stages.graph.aten.composites import taken_apart
from stages.graph.aten.constants import FILLED, SHAPED, Constant, Constants, stored, trained
from stages.graph.aten.islands import island
from stages.graph.aten.merged import SPATIAL
from stages.graph.aten.names import in_place, module_path, pure
from stages.graph.aten.refusal import RefusalError
from stages.graph.aten.shapes import RESHAPES
from stages.graph.aten.table import PARTS, translation_of
from stages.graph.aten.views import base_after, changed_bases
from stages.graph.ir import Graph, Node


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


LEAVES = ("torch.nn.modules", "stages.importers")
"""Packages whose modules are one operator each, which bears the module's path."""


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
            frozen=frozenset(key for key in keys if not self.constants.is_trained(key)),
        )

    def _placeholders(self) -> None:
        self.constants = Constants(batch=self.batch, params=self.params, trained=trained(self.exported))
        self.values |= stored(self.exported)
        for fx_node in self.exported.graph.nodes:
            traced = fx_node.meta.get("val")
            if fx_node.op == "placeholder" and fx_node not in self.values and isinstance(traced, Tensor):
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
        where = f"{base} in {module_path(fx_node) or 'the root module'}"
        try:
            traced = fx_node.meta.get("val")
            path = f"{module_path(fx_node)}.{fx_node.name}".lstrip(".")
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
    ) -> Ref | Constant:
        """One call that reads values, translated, or as an island."""
        base = pure(overload.split(".")[0])
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
        path = module_path(fx_node)
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
        translation = translation_of(base, part)
        before = len(self.nodes)
        try:
            if translation is None:
                raise ValueError("has no integer form")
            if any(ref.dtype.is_complex for ref in refs):
                raise ValueError("computes with complex numbers")
            result = translation(call)
        except RefusalError:
            raise
        except ValueError as why:
            for name in list(self.nodes)[before:]:
                del self.nodes[name]
            # the function that gives a new tensor stands for the one that changes its argument
            function = ".".join((base, *overload.split(".")[1:]))
            apart = self._apart(source, function) if part is None and base not in SPATIAL else None
            if isinstance(apart, Constant):
                self._changed(fx_node, apart)
                return apart
            if apart is not None:
                result = str(apart.name)
            else:
                dtype, reason = traced.dtype, str(why)
                result = island(function, args, kwargs, part=part, layout=layout, dtype=dtype, why=reason)
        if isinstance(result, Node):
            result = (result,)
        # a name is an alias: dropout in evaluation mode, a reshape that changes nothing
        name = result if isinstance(result, str) else self._chain(result, layout.sample, path, fx_node)
        value = Ref(name, layout, traced.dtype)
        if in_place(overload.split(".")[0]):
            self._changed(fx_node, value)
        return value

    def _changed(self, fx_node: torch.fx.Node, value: Ref | Constant) -> None:
        """A change in place: later readers of its argument, and of what that is a view of, see it."""
        changed = fx_node.args[0]
        if isinstance(changed, torch.fx.Node):
            self.values[changed] = value
            for view, base in changed_bases(changed, fx_node):
                module = base_after(view, base)
                if module is None:
                    break
                self.values[base] = self._in_place_of(module, (base, view))[0]

    def _apart(self, fx_node: torch.fx.Node, function: str) -> Any:
        """What a call is made of, in its place; None unless every part has an integer form."""
        module = taken_apart(fx_node, function)
        if module is None:
            return None
        nodes, problems = dict(self.nodes), list(self.problems)
        given = torch.utils._pytree.tree_leaves((fx_node.args, fx_node.kwargs))
        outer = [leaf for leaf in given if isinstance(leaf, torch.fx.Node)]
        results = self._in_place_of(module, outer)
        islands = [name for name, node in self.nodes.items() if node.op == "aten" and name not in nodes]
        if islands or not all(isinstance(own, Ref | Constant) for own in results):
            self.nodes, self.problems = nodes, problems
            return None
        return results[0] if isinstance(fx_node.meta.get("val"), Tensor) else tuple(results)

    def _in_place_of(self, module: torch.fx.GraphModule, given: Sequence[torch.fx.Node]) -> list[Any]:
        """What a graph of calls that stand in the place of one gives, of that one's arguments."""
        inner = [own for own in module.graph.nodes if own.op == "placeholder"]
        self.values.update({own: self.values[node] for own, node in zip(inner, given, strict=True)})
        return self._walk(module)

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
        leaf = bool(path) and any(package in str(stack[-1][1]) for package in LEAVES)
        suffix = f".{node.op}" if suffix is None else suffix
        base = (path if leaf else f"{path}.{fx_node.name}".lstrip(".")) + suffix
        name, count = base, 1
        while name in self.nodes:
            count += 1
            name = f"{base}:{count}"
        self.nodes[name] = replace(node, name=name, module=path)
        return name


def _used(nodes: Mapping[str, Node], output: str) -> tuple[Node, ...]:
    """The input, and what the output depends on."""
    needed = {output}
    for name in reversed(list(nodes)):
        if name in needed:
            needed |= set(nodes[name].inputs)
    return tuple(node for node in nodes.values() if node.op == "input" or node.name in needed)
