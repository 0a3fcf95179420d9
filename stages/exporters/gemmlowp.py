"""gemmlowp: the program's numbers as its documentation names them, and C++ over its headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from stages.data.description import Description
from stages.exporters.c_code.model import OPERATORS, example, header, source, translate
from stages.exporters.exporter import named, no_form
from stages.exporters.gemmlowp_code.calls import GemmCalls
from stages.exporters.gemmlowp_code.layers import LAYERS, MOST_DEPTH
from stages.exporters.gemmlowp_code.numbers import program_to_numbers
from stages.integer.program import Program
from stages.integer.unsigned import unsigned

HEAD = """\
// The network of model.h over gemmlowp (Debian: libgemmlowp-dev), C++11, arithmetic fixed_point.
// Build: g++ -std=c++11 -O2 model.cpp main.cpp -lpthread
#include "model.h"

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

#include <gemmlowp/public/gemmlowp.h>
"""


@dataclass(frozen=True, kw_only=True)
class Gemmlowp:
    """Writes ``model.json`` and ``model.bin``, the program's numbers, and ``model.cpp``, which runs it.

    Levels are uint8; a signed program's are 128 higher. Each layer is ``GemmWithOutputPipeline`` with a bias,
    a scale of one multiplier and exponent, or one a channel, a clamp and a cast; where an output pipeline has
    no form (a residual's sum, say) gemmlowp gives the int32 sums. Other operators are those of `PortableC`.
    ``model.h`` declares ``void model_run(const int8_t *input, int8_t *output)``, ``main.cpp`` is an example
    that reads samples from standard input.
    """

    name: ClassVar[str] = "gemmlowp"
    requires: ClassVar[tuple[str, ...]] = ()

    def refusals(self, program: Program) -> list[str]:
        """Another arithmetic than gemmlowp's, operators without a form, and sums that would leave int32."""
        reasons = no_form(program, frozenset(OPERATORS), "gemmlowp")
        layers = [op for op in program.ops if op.op in LAYERS]
        if program.requantize != "fixed_point":
            which = f" ({named([op.output for op in layers])})" if layers else ""
            reasons.append(
                f"arithmetic {program.requantize} of its operators{which}: gemmlowp rounds as fixed_point "
                "does. Remedy: convert.arithmetic=fixed_point"
            )
        deep = [op.output for op in layers if op.tensors["weight"][0].size > MOST_DEPTH]
        if deep:
            reasons.append(
                f"more than {MOST_DEPTH} products a sum ({named(deep)}): gemmlowp sums unsigned levels, "
                "which could leave int32. Remedy: leave this export out, or a narrower layer"
            )
        return reasons

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the five files."""
        own = unsigned(program)
        calls = GemmCalls(program=own)
        w, arena_bytes = translate(own, calls.operators(), designated=False)
        scratch = calls.column_bytes + 4 * calls.sums
        numbers, data = program_to_numbers(program, own, description)
        texts = {
            "model.cpp": source(HEAD.splitlines(), w, arena_bytes, calls.helpers()),
            "model.h": header(own, description, w.constant_bytes, arena_bytes + scratch),
            "main.cpp": example(),
            "model.json": numbers,
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
        (folder / "model.bin").write_bytes(data)
        return folder / "model.cpp"


EXPORTER = Gemmlowp
