"""The C file so far: tensors with their layouts, constants, and CMSIS-NN calls one after the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.exporters.c_code.arena import Lifetime
from stages.exporters.c_code.literals import array, braces, comment
from stages.exporters.cmsis_code.scratch import Scratch
from stages.exporters.tflite_file.layout import TensorLayout
from stages.integer.program import Op, Program, Value

TYPES = {"int8": "int8_t", "int32": "int32_t"}

MAX_DIMS = 4
"""Dimensions of a tensor in CMSIS-NN, the batch counted."""

Field = int | str | Sequence[int] | Mapping[str, int]


class NoCallError(ValueError):
    """An operator for which CMSIS-NN has no call, or none with these values."""

    def __init__(self, op: Op, why: str, remedy: str) -> None:
        super().__init__(f"'{op.output}' ({op.op}): {why}. Remedy: {remedy}")


@dataclass(frozen=True, kw_only=True)
class TensorPlace:
    """A value in memory: the macro that is its tensor's address, and the layout of its elements."""

    tensor: str
    layout: TensorLayout


@dataclass
class CmsisWriter:
    """What operators append to.

    Args:
        program: in the form of `stages.integer.profiles.adapt.to_tflm`.
    """

    program: Program
    placed: dict[str, TensorPlace] = field(default_factory=dict)
    levels: dict[str, NDArray[Any]] = field(default_factory=dict)
    lifetimes: dict[str, Lifetime] = field(default_factory=dict)
    scratch: dict[str, tuple[int, Scratch]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    constants: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    constant_bytes: int = 0
    step: int = 0
    _moved: dict[tuple[str, TensorLayout], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        x = self.program.values[self.program.input]
        self.placed[x.name] = TensorPlace(tensor="input", layout=TensorLayout.usual(x.shape))

    def begin(self, op: Op) -> None:
        """Say what follows."""
        shapes = " and ".join(str(self.program.values[name].shape) for name in op.inputs)
        text = comment(f"{op.output}: {op.op}, {shapes} to {self.program.values[op.output].shape}")
        self.calls.append(f"    /* {text} */")
        self.constants.append(f"/* {text} */")

    def layout(self, name: str) -> TensorLayout:
        """The layout that a value has; plain where it is flat, or a constant."""
        shape = self.program.values[name].shape
        if name in self.levels or self.placed[name].layout.flat:
            return TensorLayout.plain(shape)
        return self.placed[name].layout

    def at(self, op: Op, name: str, layout: TensorLayout | None = None) -> str:
        """Where a value lies that `op` reads, turned into `layout` where it has another."""
        if name in self.levels:
            return self._constant(name, layout or TensorLayout.plain(self.program.values[name].shape))
        own = self.placed[name]
        if layout is None or layout == own.layout:
            return own.tensor
        if (name, layout) not in self._moved:
            self._moved[name, layout] = self._move(op, own, layout)
        return self._moved[name, layout]

    def declare(self, name: str, layout: TensorLayout) -> str:
        """A value's own tensor, which the next call writes."""
        tensor = self.tensor(math.prod(layout.shape), f"{name} {layout.shape}")
        self.placed[name] = TensorPlace(tensor=tensor, layout=layout)
        return tensor

    def tensor(self, size: int, title: str) -> str:
        """A tensor of so many bytes, which the next call writes."""
        name = f"TENSOR_{len(self.lifetimes)}"
        self.lifetimes[name] = Lifetime(size=size, first=self.step, last=self.step)
        self.titles[name] = comment(title)
        return name

    def read(self, tensor: str, step: int | None = None) -> None:
        """Keep a tensor until a step, by default the next call's."""
        if tensor in self.lifetimes:
            old = self.lifetimes[tensor]
            last = max(old.last, self.step if step is None else step)
            self.lifetimes[tensor] = Lifetime(size=old.size, first=old.first, last=last)

    def call(self, function: str, *arguments: Any, reads: Sequence[str], times: int = 1) -> None:
        """A call, after which the next step begins; in a loop over ``i`` where it is made several times."""
        for tensor in reads:
            self.read(tensor)
        text = f"{function}({', '.join(map(str, arguments))});"
        if times > 1:
            self.calls.append(f"    for (i = 0; i < {times}; i++) {{")
            self.calls.append(f"        {text}")
            self.calls.append("    }")
        else:
            self.calls.append(f"    {text}")
        self.step += 1

    def data(self, role: str, values: NDArray[Any]) -> str:
        """A constant array of int8 or int32; returns its name."""
        name = f"{role}_{self.step}"
        self.constant_bytes += values.nbytes
        kind = TYPES[str(values.dtype)]
        self.constants.append(f"static const {kind} {name}[{max(values.size, 1)}] = {array(values)};")
        return name

    def structure(self, kind: str, role: str, /, **fields: Field) -> str:
        """A constant structure of CMSIS-NN's; returns its address."""
        name = f"{role}_{self.step}"
        body = ", ".join(f".{key} = {_initializer(value)}" for key, value in fields.items())
        self.constants.append(f"static const cmsis_nn_{kind} {name} = {{{body}}};")
        return f"&{name}"

    def dims(self, role: str, *sizes: int) -> str:
        """The dimensions n, h, w, c; returns their address."""
        return self.structure("dims", role, **dict(zip("nhwc", sizes, strict=True)))

    def context(self, scratch: Scratch) -> str:
        """The context of the next call, with its scratch memory; returns its address."""
        name = f"SCRATCH_{self.step}"
        self.scratch[name] = (self.step, scratch)
        return self.structure("context", "context", buf=name, size=f"{name}_BYTES")

    def quantization(self, multiplier: NDArray[Any], shift: NDArray[Any], outputs: int) -> dict[str, str]:
        """The fields of a channel's multipliers and shifts; CMSIS-NN's pointers are not const."""
        arrays = {"multiplier": multiplier, "shift": shift}
        return {
            role: f"(int32_t *){self.data(role, np.broadcast_to(values, (outputs,)).astype(np.int32))}"
            for role, values in arrays.items()
        }

    def value_of(self, op: Op) -> tuple[Value, Value]:
        """An operator's first input and its output."""
        return self.program.values[op.inputs[0]], self.program.values[op.output]

    def _constant(self, name: str, layout: TensorLayout) -> str:
        if (name, layout) not in self._moved:
            levels = layout.to_file(self.levels[name][None]).astype(np.int8)
            self._moved[name, layout] = self.data(f"levels_{len(self._moved)}", levels)
        return self._moved[name, layout]

    def _move(self, op: Op, own: TensorPlace, layout: TensorLayout) -> str:
        """By a transpose; by two where the sizes of the layouts differ."""
        if own.layout.in_order and layout.in_order:
            return own.tensor
        if own.layout.sizes != layout.sizes and not own.layout.in_order:
            plain = TensorLayout.plain(own.layout.sizes)
            own = TensorPlace(tensor=self._transpose(op, own, plain), layout=plain)
        if layout.in_order:
            return self._transpose(op, own, layout) if not own.layout.in_order else own.tensor
        if own.layout.sizes != layout.sizes:
            own = TensorPlace(tensor=own.tensor, layout=TensorLayout.plain(layout.sizes))
        return self._transpose(op, own, layout)

    def _transpose(self, op: Op, own: TensorPlace, layout: TensorLayout) -> str:
        sizes = own.layout.permuted
        rank = len(sizes)
        if rank > MAX_DIMS:
            raise NoCallError(op, f"has to turn {rank} dimensions, and there are {MAX_DIMS}", "fewer")
        lead = [1] * (MAX_DIMS - rank)
        axes = [*range(len(lead)), *(len(lead) + own.layout.order.index(axis) for axis in layout.order)]
        before = [*lead, *sizes]
        target = self.tensor(math.prod(sizes), f"read by {op.output} as {layout.shape}")
        order = f"order_{self.step}"
        self.constants.append(f"static const uint32_t {order}[{MAX_DIMS}] = {braces(axes)};")
        params = self.structure("transpose_params", "transpose", num_dims=MAX_DIMS, permutations=order)
        dims = [
            self.dims(f"dims_{role}", *found)
            for role, found in (("from", before), ("to", [before[axis] for axis in axes]))
        ]
        self.call("arm_transpose_s8", own.tensor, target, *dims, params, reads=[own.tensor])
        return target


def _initializer(value: Field) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f".{key} = {inner}" for key, inner in value.items()) + "}"
    return str(value) if isinstance(value, int | str) else braces(value)
