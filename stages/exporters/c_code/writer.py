"""The C file so far: constants, calls, and the helper functions that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.exporters.c_code.literals import array, comment, initializer, walk
from stages.exporters.c_code.structures import positional
from stages.integer.program import Op, Program, Value

NEEDS: Mapping[str, tuple[str, ...]] = {
    "layer": ("rescale", "levels", "store"),
    "weight_zero": ("layer",),
    "conv2d": ("weight_zero",),
    "linear": ("weight_zero",),
    "combine": ("rescale", "levels", "store", "offset_of"),
    "scaled_sum": ("rescale", "offset_of"),
    "multiply": ("rescale", "offset_of"),
    "matmul": ("rescale", "offset_of"),
    "mean": ("rescale", "offset_of", "reduce.h"),
    "extreme": ("offset_of", "reduce.h"),
    "avg_pool2d": ("rescale", "pool.h"),
    "average_levels": ("pool.h",),
    "max_pool2d": ("pool.h",),
    "resample": ("rescale",),
    "rows": ("levels",),
    "move": ("levels", "store", "offset_of", "move.h"),
    "place": ("offset_of", "move.h"),
    "fill": ("store",),
    "take": ("levels", "store"),
    "softmax": ("offset_of",),
    "layer_norm": ("root", "levels", "store"),
    "rms_norm": ("root",),
    "group_norm": ("root",),
}
"""What each helper in ``source/`` calls; ``rescale`` is the program's arithmetic."""

TYPES = {"int8": "int8_t", "int32": "int32_t", "int64": "int64_t"}

ARITHMETIC = {"tflm": "fixed_point"}
"""The helper that rescales, where it has another name than the arithmetic."""


@dataclass
class CWriter:
    """What operators append to.

    Args:
        program: signed, as `stages.exporters.c_code.signed` makes it.
        places: by value, where its levels lie: an expression of type ``int8_t *``.
        designated: whether structures name their fields, as C99 can and C++11 cannot.
    """

    program: Program
    places: Mapping[str, str]
    designated: bool = True
    parts: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    constant_bytes: int = 0
    rank: int = 1
    step: int = -1

    def begin(self, op: Op, step: int) -> None:
        """Name what follows after the operator."""
        self.step = step
        shapes = " and ".join(str(self.program.values[name].shape) for name in op.inputs)
        text = comment(f"{op.output}: {op.op}, {shapes} to {self.program.values[op.output].shape}")
        self.calls.append(f"    /* {text} */")
        self.constants.append(f"/* {text} */")

    def use(self, part: str) -> None:
        """Emit a helper, after those that it needs."""
        for needed in NEEDS.get(part, ()):
            self.use(needed)
        mode = self.program.requantize
        part = ARITHMETIC.get(mode, mode) if part == "rescale" else part
        if part not in self.parts:
            self.parts.append(part)

    def helpers(self) -> str:
        """The source of the helpers in use."""
        folder = files("stages.exporters.c_code") / "source"
        return "\n".join((folder / f"{part}.c").read_text(encoding="utf-8") for part in self.parts)

    def data(self, role: str, values: NDArray[Any]) -> str:
        """A constant array of int8, int32 or int64; returns its name."""
        name, dtype = f"{role}_{self.step}", TYPES[str(values.dtype)]
        self.constant_bytes += values.nbytes
        self.constants.append(f"static const {dtype} {name}[{max(values.size, 1)}] = {array(values)};")
        return name

    def ratios(self, role: str, op: Op) -> tuple[str, int]:
        """An operator's ratios as an array: its name and length."""
        count = op.tensors["ratio"].size
        self.constant_bytes += count * (4 if self.program.requantize == "float" else 8)
        literals = ",\n    ".join(self.ratio(op, index=i) for i in range(count))
        name = f"{role}_{self.step}"
        self.constants.append(f"static const ratio_t {name}[{count}] = {{\n    {literals}}};")
        return name, count

    def ratio(self, op: Op, prefix: str = "", index: int = 0) -> str:
        """One ratio of an operator."""
        if self.program.requantize == "float":
            return f"{float(np.float32(op.tensors[prefix + 'ratio'][index])).hex()}f"
        return self.fixed(op.tensors[prefix + "multiplier"][index], op.tensors[prefix + "shift"][index])

    @staticmethod
    def fixed(multiplier: Any, shift: Any) -> str:
        """A ratio in fixed point."""
        return f"{{{int(multiplier)}, {int(shift)}}}"

    def structure(self, struct: str, suffix: str = "", /, **fields: Any) -> str:
        """A constant structure; returns its address. Sequences become braces, mappings inner structures."""
        name = f"{struct}_{self.step}{suffix}"
        named = [f".{key} = {initializer(value)}" for key, value in fields.items()]
        body = ",\n    ".join(named if self.designated else positional(struct, fields))
        self.constants.append(f"static const {struct}_t {name} = {{\n    {body}}};")
        return f"&{name}"

    def walk(self, sizes: Sequence[int], *strides: Sequence[int]) -> tuple[dict[str, Any], list[list[int]]]:
        """The fields ``rank`` and ``sizes``, and the strides of each operand."""
        merged, own = walk(sizes, *strides)
        self.rank = max(self.rank, len(merged))
        return {"rank": len(merged), "sizes": merged}, own

    def call(self, helper: str, *arguments: Any) -> None:
        """A call of a helper."""
        self.use(helper)
        self.calls.append(f"    {helper}({', '.join(map(str, arguments))});")

    def values_of(self, op: Op) -> tuple[list[Value], Value]:
        """An operator's inputs and its output."""
        return [self.program.values[name] for name in op.inputs], self.program.values[op.output]

    def at(self, value: Value, elements: int = 0) -> str:
        """Where a value's levels lie, some elements further."""
        place = self.places[value.name]
        return f"{place} + {elements * value.dtype.itemsize}" if elements else place
