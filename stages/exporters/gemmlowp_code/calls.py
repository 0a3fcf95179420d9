"""How layers become calls of gemmlowp; the other operators are the C exporter's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.exporters.c_code.computed import finishing, residual
from stages.exporters.c_code.literals import array
from stages.exporters.c_code.model import OPERATORS, Write
from stages.exporters.c_code.writer import CWriter
from stages.exporters.gemmlowp_code.layers import LAYERS, Gemm
from stages.integer.program import Op, Program
from stages.integer.unsigned import OFFSET


@dataclass
class GemmCalls:
    """Writes the layers of a program of unsigned levels, and keeps count of what they need.

    Args:
        program: unsigned; the writer's is the same, signed.
        column_bytes: of the matrix of columns, the largest layer's.
        sums: of the matrix of int32 sums, the largest layer's; 0 where none is needed.
        parts: the helpers of ``source/`` in use, in order.
    """

    program: Program
    column_bytes: int = 0
    sums: int = 0
    parts: list[str] = field(default_factory=list)

    def operators(self) -> Mapping[str, Write]:
        """All operators' forms."""
        return {**OPERATORS, **dict.fromkeys(LAYERS, self.layer)}

    def layer(self, w: CWriter, op: Op) -> None:
        """Columns, their product with the weights, and the levels."""
        own = self.program.ops[w.step]
        gemm = Gemm.of(own, self.program)
        (x, *_), y = w.values_of(op)
        image = op.op.endswith("conv2d")
        columns = math.prod(y.shape[1:]) if image else math.prod(x.shape[:-1])
        self.column_bytes = max(self.column_bytes, columns * gemm.groups * gemm.depth)
        if image:
            self._gather(w, op)
        else:
            w.call("flip", w.at(x), math.prod(x.shape), "reinterpret_cast<int8_t *>(columns)")
        product = self._product(w, gemm, columns)
        order = f"gemmlowp::MapOrder::{'Row' if image else 'Col'}Major"
        if gemm.in_pipeline:
            self._use("levels")
            levels = self._levels(w, own, product)
            target = w.at(y)
            to = f"reinterpret_cast<std::uint8_t *>({target})"
            w.calls.append(f"    multiply_to_levels<{order}>({levels}, columns, {to});")
            w.call("flip", target, math.prod(y.shape), target)
        else:
            self._use("sums")
            self.sums = max(self.sums, gemm.rows * columns)
            layer = w.structure("layer", **finishing(w, op, gemm.groups)).removeprefix("&")
            w.constants.append(f"static const product_t product_{w.step} = {product};")
            arguments = f"product_{w.step}, {layer}, columns, sums, {residual(w, op)}, {w.at(y)}"
            w.calls.append(f"    multiply_to_sums<{order}>({arguments});")

    def helpers(self) -> str:
        """The source of the helpers in use, and the matrices."""
        folder = files("stages.exporters.gemmlowp_code") / "source"
        parts = [(folder / f"{part}.cc").read_text(encoding="utf-8") for part in self.parts]
        for name, dtype, size in (("columns", "uint8_t", self.column_bytes), ("sums", "int32_t", self.sums)):
            if size:
                parts.append(f"static std::{dtype} {name}[{size}];\n")
        return "\n".join(parts)

    def _use(self, part: str) -> None:
        if part not in self.parts:
            self.parts.append(part)

    def _gather(self, w: CWriter, op: Op) -> None:
        (x, *_), y = w.values_of(op)
        self._use("gather")
        w.use("pool.h")
        windows = w.structure(
            "pool",
            **dict(zip(("channels", "height", "width"), x.shape, strict=True)),
            out_height=y.shape[1],
            out_width=y.shape[2],
            kernel=op.tensors["weight"].shape[2:],
            **{name: op.attrs[name] for name in ("stride", "padding", "dilation")},
        ).removeprefix("&")
        w.calls.append(f"    gather({windows}, {x.zero_point + OFFSET}, {w.at(x)}, columns);")

    def _product(self, w: CWriter, gemm: Gemm, columns: int) -> str:
        self._use("product")
        weight = f"weight_{w.step}"
        w.constant_bytes += gemm.weight.nbytes
        w.constants.append(f"static const std::uint8_t {weight}[{gemm.weight.size}] = {array(gemm.weight)};")
        offsets = w.data("lhs_offset", gemm.lhs_offset)
        numbers = (gemm.lhs_offset.size, gemm.rhs_offset, gemm.rows, gemm.depth, gemm.groups, columns)
        return f"{{{weight}, {offsets}, {', '.join(map(str, numbers))}}}"

    def _levels(self, w: CWriter, op: Op, product: str) -> str:
        def data(role: str, values: NDArray[Any]) -> str:
            return w.data(role, values.astype(np.int32))

        y, multiplier = self.program.values[op.output], op.tensors["multiplier"]
        bias, exponent = data("bias", op.tensors["bias"]), data("exponent", op.tensors["shift"])
        arrays = f"{bias}, {data('multiplier', multiplier)}, {exponent}, {multiplier.size}"
        bounds = f"{y.zero_point}, {op.attrs['act_min']}, {op.attrs['act_max']}"
        w.constants.append(
            f"static const levels_t levels_{w.step}_of = {{\n    {product},\n    {arrays}, {bounds}}};"
        )
        return f"levels_{w.step}_of"
