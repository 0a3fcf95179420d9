"""What does not depend on the input is computed at capture: position tables, masks, weights made of weights.

Shapes may depend on the size of the batch all the same (``token.expand(len(x), -1, -1)``). Such constants are
computed for `SAMPLES` samples, and have to be alike for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stages.graph.aten.batch import Placement
from stages.graph.aten.call import Param, SampleNumbers
from stages.graph.aten.names import in_place
from stages.graph.aten.refusal import RefusalError

SAMPLES = 2
"""The size of the batch that constants are computed for."""

FILLED: Mapping[str, float | None] = {
    "zeros_like": 0.0,
    "new_zeros": 0.0,
    "empty_like": 0.0,
    "new_empty": 0.0,
    "ones_like": 1.0,
    "new_ones": 1.0,
    "full_like": None,
    "new_full": None,
}
"""Functions that take no more of their first argument than its shape and dtype, and what they fill in."""

_EMPTY = frozenset({"empty", "empty_strided"})
"""Functions whose result holds whatever lay there before; here zeros."""

SHAPED: Mapping[str, Callable[..., Any]] = {
    "expand_as": torch.ops.aten.expand.default,
    "view_as": torch.ops.aten.reshape.default,
    "reshape_as": torch.ops.aten.reshape.default,
}
"""Functions that take no more of their second argument than its shape, and what they do with that."""

_SAME = frozenset({"detach", "detach_", "alias", "contiguous"})
"""Functions whose result is their argument, where that lies in its own order."""


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A constant of the trace: the key of its parameter, and its tensor for `SAMPLES` samples."""

    key: str
    tensor: Tensor


@dataclass(kw_only=True)
class Constants:
    """The constants computed so far.

    Args:
        batch: the size of the batch in the trace.
        params: the graph's parameters, to which those that are read are added.
        trained: the keys of what training moves.
    """

    batch: int
    params: dict[str, Tensor]
    trained: set[str]
    _made: dict[str, Any] = field(default_factory=dict)

    def compute(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], name: str
    ) -> Any:
        """A call on constants: a `Constant` of the name, a tuple of them, or whatever else it gives.

        Calls of the same function with the same constants give one, so that layers that share a weight which
        is computed go on sharing it.
        """
        base = str(function).removeprefix("aten.").split(".")[0]
        if base in _SAME and isinstance(args[0], Constant) and args[0].tensor.is_contiguous():
            return args[0]
        where = repr((str(function), [_keyed(a) for a in args], [(k, _keyed(v)) for k, v in kwargs.items()]))
        mutable = in_place(base)
        if mutable:
            self._made.clear()
        elif where in self._made:
            return self._made[where]
        with torch.no_grad(), torch.random.fork_rng(devices=()):
            before = torch.get_rng_state()
            real = function(*map(self._real, args), **{k: self._real(v) for k, v in kwargs.items()})
            if not torch.equal(before, torch.get_rng_state()):
                raise RefusalError("draws random numbers in evaluation")
            if base in _EMPTY:
                real.zero_()
        if any(key in self.trained for key in _keys((*args, *kwargs.values()))):
            self.trained.add(name)
        if mutable and isinstance(args[0], Constant):
            return args[0]
        self._made[where] = result = _wrapped(real, name)
        return result

    def filled(self, base: str, args: Sequence[Any], traced: Tensor, name: str) -> Constant:
        """What a function among `FILLED` gives: one number, in the shape as traced; a `Constant` of the name.

        Raises:
            RefusalError: what it fills in is computed.
        """
        number = FILLED[base] if FILLED[base] is not None else args[2 if base == "new_full" else 1]
        if not isinstance(number, int | float):
            raise RefusalError("fills in a number that is computed")
        shape = [self._real(size) for size in traced.shape]
        return Constant(key=name, tensor=torch.full(shape, number, dtype=traced.dtype))

    def param(self, constant: Constant, traced: Sequence[int] | None) -> Param | SampleNumbers:
        """A constant as an argument: with 1 for a batch in which all samples are alike, or their numbers.

        Args:
            constant: the constant.
            traced: its shape in the trace; None where it cannot hold the batch.

        Raises:
            RefusalError: its samples differ.
        """
        tensor, batch_dim = constant.tensor, None
        if traced is not None and any(n and n % self.batch == 0 for n in traced):
            layout = Placement.of(traced, self.batch)
            if list(tensor.shape) != [self._real(size) for size in traced]:
                raise RefusalError("depends on the number of samples by more than its shape")
            shape = tensor.shape
            own = shape[layout.dim] // SAMPLES
            parts = tensor.reshape(*shape[: layout.dim], SAMPLES, own, *shape[layout.dim + 1 :])
            if not tensor.is_floating_point() and tensor.flatten().tolist() == [*range(SAMPLES)]:
                return SampleNumbers(layout.dim, len(shape) - layout.dim - 1)
            if not torch.equal(parts.select(layout.dim, 0), parts.select(layout.dim, 1)):
                raise RefusalError("differs from one sample of a batch to the next")
            tensor, batch_dim = parts.select(layout.dim, 0), layout.dim
        key = constant.key
        if key in self.params and self.params[key].shape != tensor.shape:
            key = f"{key}:sample"
        self.params.setdefault(key, tensor.detach())
        return Param(key, self.params[key], batch_dim)

    def is_trained(self, key: str) -> bool:
        """Whether training in float moves a parameter, or one that it was made from."""
        while key not in self.trained and ":" in key:
            key = key.rpartition(":")[0]
        return key in self.trained

    def _real(self, argument: Any) -> Any:
        if isinstance(argument, Constant):
            return argument.tensor
        if isinstance(argument, list | tuple):
            return type(argument)(self._real(item) for item in argument)
        if not isinstance(argument, int) or isinstance(argument, bool) or argument % self.batch:
            return argument
        return argument // self.batch * SAMPLES


def stored(exported: torch.export.ExportedProgram) -> dict[torch.fx.Node, Constant]:
    """The parameters, buffers and other tensors of a program, by their placeholders."""
    signature = exported.graph_signature
    keys = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    tensors: Mapping[str, Any] = {**exported.constants, **exported.state_dict}
    own = {key: Constant(key=key, tensor=tensors[key].detach().clone()) for key in set(keys.values())}
    nodes = (node for node in exported.graph.nodes if node.op == "placeholder")
    return {node: own[keys[node.name]] for node in nodes if node.name in keys}


def trained(exported: torch.export.ExportedProgram) -> set[str]:
    """The keys of what training moves."""
    return {key for key, tensor in exported.state_dict.items() if tensor.requires_grad}


def _wrapped(real: Any, name: str) -> Any:
    if isinstance(real, Tensor):
        return Constant(key=name, tensor=real)
    if isinstance(real, list | tuple):
        return tuple(_wrapped(item, f"{name}.{index}") for index, item in enumerate(real))
    return real


def _keyed(argument: Any) -> Any:
    """An argument as text that tells it from others, without its tensor."""
    if isinstance(argument, Constant):
        return ("constant", argument.key)
    return [_keyed(item) for item in argument] if isinstance(argument, list | tuple) else argument


def _keys(arguments: Sequence[Any]) -> list[str]:
    found: list[str] = []
    for argument in arguments:
        if isinstance(argument, Constant):
            found.append(argument.key)
        elif isinstance(argument, list | tuple):
            found += _keys(argument)
    return found
