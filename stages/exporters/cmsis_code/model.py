"""The files of a program in calls of CMSIS-NN: ``model.c`` and ``model.h``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stages.data.description import Description
from stages.exporters.c_code.arena import Arena, Lifetime, plan
from stages.exporters.c_code.model import ENTRY, described, reads_input
from stages.exporters.cmsis_code import elements, images, layers
from stages.exporters.cmsis_code.writer import CmsisWriter, NoCallError, TensorPlace
from stages.exporters.exporter import no_form
from stages.exporters.tflite_file.layout import TensorLayout
from stages.integer.program import Op, Program, Value

OPERATORS: Mapping[str, Callable[[CmsisWriter, Op], None]] = {
    "conv2d": layers.conv2d,
    "linear": layers.linear,
    "avg_pool2d": images.avg_pool2d,
    "max_pool2d": images.max_pool2d,
    "slice": images.every_nth,
    "mean": layers.mean,
    "requantize": layers.requantize,
    "add": elements.add,
    "multiply": elements.multiply,
    "maximum": elements.extreme,
    "minimum": elements.extreme,
    "softmax": elements.softmax,
    "reshape": elements.reshape,
    "permute": elements.permute,
    "constant": elements.constant,
    "pad": elements.pad,
    "concat": elements.concat,
}

PROCESSORS: Mapping[str, str] = {
    "mve": "#if defined(ARM_MATH_MVEI)",
    "dsp": "#elif defined(ARM_MATH_DSP)",
    "plain": "#else",
}
"""By the kinds of scratch memory: where it holds. CMSIS-NN defines the macros from the compiler's."""


@dataclass(frozen=True, kw_only=True)
class CmsisModel:
    """The two files' texts, and bytes: of constants, and of the arena by processor."""

    source: str
    header: str
    constant_bytes: int
    arena_bytes: Mapping[str, int]


def problems(program: Program) -> list[str]:
    """Why a program in TFLite's form cannot be written: the operators, by name, each with a remedy."""
    found = no_form(program, frozenset(OPERATORS), "CMSIS-NN")
    unfit = [name for name, value in program.values.items() if value.wide or value.dtype != np.int8]
    if unfit:
        found.append(
            f"levels that are not int8 ({', '.join(unfit[:3])}). "
            "Remedy: 8-bit activations; of an imported file, an int8 one"
        )
    if not found:
        _written(program, found)
    return found


def program_to_cmsis(program: Program, description: Description | None = None) -> CmsisModel:
    """A program of which `problems` says nothing, in C99."""
    w = _written(program)
    output = _finish(w)
    arenas = {}
    for kind in PROCESSORS:
        buffers = {name: life for name, life in w.lifetimes.items() if name != output}
        buffers |= {
            name: Lifetime(size=size, first=step, last=step)
            for name, (step, scratch) in w.scratch.items()
            if (size := getattr(scratch, kind))
        }
        arenas[kind] = plan(buffers)
    sizes = {kind: arena.size for kind, arena in arenas.items()}
    places = _places(w, output, arenas)
    return CmsisModel(
        source=_source(w, places, sizes),
        header=_header(program, description, w.constant_bytes, sizes),
        constant_bytes=w.constant_bytes,
        arena_bytes=sizes,
    )


def _written(program: Program, found: list[str] | None = None) -> CmsisWriter:
    """All operators' calls. Refusals go to `found` where it is given."""
    w = CmsisWriter(program=program)
    for op in program.ops:
        w.begin(op)
        try:
            OPERATORS[op.op](w, op)
        except NoCallError as error:
            if found is None:
                raise
            found.append(str(error))
            w.declare(op.output, TensorLayout.usual(program.values[op.output].shape))
    return w


def _finish(w: CmsisWriter) -> str:
    """Bring the output into its usual layout; returns the tensor that lies where the caller wants it."""
    y = w.program.values[w.program.output]
    layout = TensorLayout.usual(y.shape)
    op = Op(op="reshape", inputs=(y.name,), output=y.name)
    tensor = w.at(op, y.name, layout)
    if tensor not in w.lifetimes:  # the input itself, or constant
        copied = w.tensor(math.prod(y.shape), y.name)
        w.call("arm_reshape_s8", tensor, copied, math.prod(y.shape), reads=[tensor])
        tensor = copied
    w.placed[y.name] = TensorPlace(tensor=tensor, layout=layout)
    return tensor


def _places(w: CmsisWriter, output: str, arenas: Mapping[str, Arena]) -> list[str]:
    """The macros of the arena's size and of all addresses, for each kind of processor."""
    lines = []
    for kind, condition in PROCESSORS.items():
        offsets = arenas[kind].offsets
        lines += [condition, f"#define ARENA_BYTES {arenas[kind].size}"]
        for name in w.lifetimes:
            place = "output" if name == output else f"AT({offsets[name]})"
            lines.append(f"#define {name} {place} /* {w.titles[name]} */")
        for name, (_, scratch) in w.scratch.items():
            size = getattr(scratch, kind)
            lines.append(f"#define {name} {f'AT({offsets[name]})' if size else '0'}")
            lines.append(f"#define {name}_BYTES {size}")
    return [*lines, "#endif", ""]


def _source(w: CmsisWriter, places: list[str], sizes: Mapping[str, int]) -> str:
    lines = [
        "/* The network of model.h in calls of CMSIS-NN 19.1 (arm_nnfunctions.h). Images are (H, W, C).",
        " * Statuses are not looked at: sizes and scratch memory were computed for these layers. */",
        '#include "model.h"',
        "",
        '#include "arm_nnfunctions.h"',
        "",
        "#ifdef CMSIS_NN_USE_SINGLE_ROUNDING",
        '#error "the integers are those of double rounding, CMSIS-NN\'s default"',
        "#endif",
        "",
    ]
    lines += places
    if any(sizes.values()):
        lines += [
            "/* Values between layers and scratch memory; the same bytes again once they are not needed. */",
            "static int32_t arena[ARENA_BYTES / 4 + !ARENA_BYTES];",
            "#define AT(offset) ((int8_t *)arena + (offset))",
            "",
        ]
    lines += [*w.constants, "", "void model_run(const int8_t *input, int8_t *output)", "{"]
    if any(call.lstrip().startswith("for (i = ") for call in w.calls):
        lines.append("    int32_t i;")
    if not reads_input(w.calls):
        lines.append("    (void)input;")
    if any(sizes.values()) and not all(sizes.values()):
        lines.append("    (void)arena;")
    return "\n".join([*lines, *w.calls, "}", ""])


def _header(
    program: Program, description: Description | None, constant_bytes: int, arenas: Mapping[str, int]
) -> str:
    x, y = program.values[program.input], program.values[program.output]
    lines = [
        "/* A quantized network. A level q stands for the real number scale * (q - zero_point).",
        f" * input:  {_levels(x)}",
        f" * output: {_levels(y)}",
        " * Images have their channels last. Input and output must not overlap.",
        " * Compile with CMSIS-NN's Include folder. Not reentrant: the arena is static. */",
        "#ifndef MODEL_H",
        "#define MODEL_H",
        "",
        "#include <stdint.h>",
        "",
    ]
    for role, value in (("INPUT", x), ("OUTPUT", y)):
        lines += [
            f"#define MODEL_{role}_TYPE int8_t",
            f"#define MODEL_{role}_SIZE {math.prod(value.shape)} /* levels, shape {_shape(value)} */",
            f"#define MODEL_{role}_BYTES {math.prod(value.shape)}",
            f"#define MODEL_{role}_SCALE {float(np.float32(value.scale)).hex()}f",
            f"#define MODEL_{role}_ZERO_POINT {value.zero_point}",
            f"#define MODEL_{role}_MIN {value.quant_min}",
            f"#define MODEL_{role}_MAX {value.quant_max}",
        ]
    lines.append(f"#define MODEL_CONSTANT_BYTES {constant_bytes} /* weights, multipliers, without code */")
    conditions = (
        "#if defined(ARM_MATH_MVEI) || defined(__ARM_FEATURE_MVE)",
        "#elif defined(ARM_MATH_DSP) || defined(__ARM_FEATURE_DSP)",
        "#else",
    )
    for condition, size in zip(conditions, arenas.values(), strict=True):
        lines += [condition, f"#define MODEL_ARENA_BYTES {size} /* static memory that is written */"]
    lines.append("#endif")
    if description is not None:
        lines += described(description)
    return "\n".join([*lines, *ENTRY])


def _levels(value: Value) -> str:
    return f"int8_t {_shape(value)}, row-major, levels {value.quant_min}..{value.quant_max}"


def _shape(value: Value) -> tuple[int, ...]:
    return TensorLayout.usual(value.shape).shape
