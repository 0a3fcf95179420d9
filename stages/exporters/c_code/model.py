"""The files of a program in C: ``model.c``, ``model.h`` and an example, ``main.c``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from stages.data.description import Description
from stages.exporters.c_code import computed, moved, normalized, tflm
from stages.exporters.c_code.literals import braces, string
from stages.exporters.c_code.places import bytes_of, place
from stages.exporters.c_code.signed import is_unsigned, signed
from stages.exporters.c_code.writer import CWriter
from stages.integer.kernel import has_profile
from stages.integer.program import Op, Program, Value

Write = Callable[[CWriter, Op], None]

OPERATORS: Mapping[str, Write] = {
    "conv2d": computed.conv2d,
    "group_conv2d": computed.conv2d,
    "linear": computed.linear,
    "group_linear": computed.linear,
    "add": computed.combine,
    "subtract": computed.combine,
    "maximum": computed.combine,
    "minimum": computed.combine,
    "multiply": computed.multiply,
    "matmul": computed.matmul,
    "mean": computed.mean,
    "amax": computed.extreme,
    "amin": computed.extreme,
    "avg_pool2d": computed.avg_pool2d,
    "max_pool2d": computed.max_pool2d,
    "resample": computed.resample,
    "softmax": normalized.softmax,
    "layer_norm": normalized.layer_norm,
    "rms_norm": normalized.rms_norm,
    "group_norm": normalized.group_norm,
    "reshape": moved.reshape,
    "constant": moved.constant,
    "table": moved.table,
    "channel_table": moved.channel_table,
    "embedding": moved.embedding,
    "requantize": moved.requantize,
    "concat": moved.concat,
    "permute": moved.permute,
    "slice": moved.slices,
    "pad": moved.pad,
    "insert_zeros": moved.insert_zeros,
    "upsample_nearest": moved.upsample_nearest,
    "take": moved.take,
}

TFLM: Mapping[str, Write] = {
    "add": tflm.scaled_sum,
    "subtract": tflm.scaled_sum,
    "mean": tflm.mean,
    "avg_pool2d": tflm.avg_pool2d,
    "softmax": tflm.softmax,
}
"""Operators that TFLite Micro computes in its own way."""


@dataclass(frozen=True, kw_only=True)
class CModel:
    """The two files' texts, and bytes of memory: of constants, and of values between operators."""

    source: str
    header: str
    constant_bytes: int
    arena_bytes: int


def program_to_c(program: Program, description: Description | None = None) -> CModel:
    """A program whose operators are all in `OPERATORS`, as C99."""
    w, arena_bytes = translate(program, OPERATORS)
    lines = [f"/* The network of model.h in C99, arithmetic {program.requantize}. No malloc, no library. */"]
    return CModel(
        source=source([*lines, '#include "model.h"', ""], w, arena_bytes),
        header=header(program, description, w.constant_bytes, arena_bytes),
        constant_bytes=w.constant_bytes,
        arena_bytes=arena_bytes,
    )


def translate(
    program: Program, operators: Mapping[str, Write], *, designated: bool = True
) -> tuple[CWriter, int]:
    """Constants and calls of a program whose operators are all in `operators`, and the arena's bytes."""
    same = signed(program)
    x, y = program.values[program.input], program.values[program.output]
    constants = {op.output: f"levels_{i}" for i, op in enumerate(same.ops) if op.op == "constant"}
    places = place(same, copies_input=is_unsigned(x), constants=constants)
    read = {same.output, *(name for op in same.ops if op.op != "constant" for name in op.inputs)}
    w = CWriter(program=same, places=places.of, designated=designated)
    if is_unsigned(x):
        w.call("flip", "input", math.prod(x.shape), w.at(same.values[x.name]))
    for step, op in enumerate(same.ops):
        w.begin(op, step)
        if op.op == "constant" and op.output in read:
            w.data("levels", op.tensors["levels"])
        (TFLM if has_profile(op, program) else operators)[op.op](w, op)
    if places.of[y.name] != "output":
        out = same.values[y.name]
        w.step = len(same.ops)
        moved.copy(w, out, "output")
    if is_unsigned(y):
        w.call("flip", "output", math.prod(y.shape), "output")
    return w, places.arena_bytes


def example() -> str:
    """A program that reads samples from standard input and writes the network's output for each."""
    return (files("stages.exporters.c_code") / "source" / "main.c").read_text(encoding="utf-8")


def source(lines: Sequence[str], w: CWriter, arena_bytes: int, helpers: str = "") -> str:
    """The file that starts with `lines`; `helpers` come after those of the writer."""
    lines, own = list(lines), w.helpers()
    if "RANK" in own:
        lines += [f"#define RANK {w.rank} /* most dimensions of a walk */", ""]
    if arena_bytes:
        lines += [
            "/* Levels between operators; the same bytes again and again, once they are not needed. */",
            f"static int32_t arena[{arena_bytes // 4}];",
            "#define AT(offset) ((int8_t *)arena + (offset))",
            "",
        ]
    lines += [own, *([helpers] if helpers else []), *w.constants, ""]
    lines += ["void model_run(const int8_t *input, int8_t *output)", "{"]
    if not reads_input(w.calls):
        lines.append("    (void)input;")
    return "\n".join([*lines, *w.calls, "}", ""])


def reads_input(calls: Sequence[str]) -> bool:
    """Whether a call, not a comment, names the parameter ``input``."""
    return any(re.search(r"\binput\b", call) for call in calls if not call.lstrip().startswith("/*"))


def header(program: Program, description: Description | None, constant_bytes: int, arena_bytes: int) -> str:
    """What a caller needs: types, sizes, scales, names, and the function."""
    x, y = program.values[program.input], program.values[program.output]
    lines = [
        "/* A quantized network. A level q stands for the real number scale * (q - zero_point).",
        f" * input:  {_levels(x)}",
        f" * output: {_levels(y)}",
        " * model_run takes pointers to int8_t whatever the levels are: cast others. They must not overlap.",
        " * Compile without -ffast-math. Not reentrant: the arena is static. */",
        "#ifndef MODEL_H",
        "#define MODEL_H",
        "",
        "#include <stdint.h>",
        "",
    ]
    for role, value in (("INPUT", x), ("OUTPUT", y)):
        dtype = f"{value.dtype}_t"
        lines += [
            f"#define MODEL_{role}_TYPE {dtype}",
            f"#define MODEL_{role}_SIZE {math.prod(value.shape)} /* levels, shape {value.shape} */",
            f"#define MODEL_{role}_BYTES {bytes_of(value)}",
            f"#define MODEL_{role}_SCALE {float(np.float32(value.scale)).hex()}f",
            f"#define MODEL_{role}_ZERO_POINT {value.zero_point}",
            f"#define MODEL_{role}_MIN {value.quant_min}",
            f"#define MODEL_{role}_MAX {value.quant_max}",
        ]
    lines += [
        f"#define MODEL_CONSTANT_BYTES {constant_bytes} /* weights and tables, without code */",
        f"#define MODEL_ARENA_BYTES {arena_bytes} /* static memory that is written */",
    ]
    if description is not None:
        lines += described(description)
    return "\n".join([*lines, *ENTRY])


def _levels(value: Value) -> str:
    return f"{value.dtype}_t {value.shape}, row-major, levels {value.quant_min}..{value.quant_max}"


ENTRY = (
    *("", "#ifdef __cplusplus", 'extern "C" {', "#endif", ""),
    *("void model_run(const int8_t *input, int8_t *output);", ""),
    *("#ifdef __cplusplus", "}", "#endif", "", "#endif", ""),
)
"""The end of a header: the one function, for C and C++, and the end of its guard."""


def described(description: Description) -> list[str]:
    """What reals the input's levels stand for, and the outputs' names."""
    lines = [
        "/* Reals of the input are (x - mean) / std, a number a channel; x is 0..1 where it is an image. */"
    ]
    for name, numbers in (("MEAN", description.mean), ("STD", description.std)):
        if numbers:
            lines.append(f"#define MODEL_{name} {braces([f'{float(number)!r}f' for number in numbers])}")
    if description.classes is not None:
        lines.append(f"#define MODEL_CLASSES {braces([string(name) for name in description.classes])}")
    return lines
