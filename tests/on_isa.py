"""A pytest plugin that runs the native engine on another instruction set than this CPU's fastest.

    ISA=avx2 python -m pytest -p tests.on_isa tests/stages/backends

Where ISA is not set, or the CPU lacks it, nothing runs. `instruction_sets.NAMES` lists them.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from stages.backends.native_kernels import library
from stages.backends.native_kernels.instruction_sets import InstructionSet, choose


def _chosen(name: str | None, features: Collection[str]) -> InstructionSet:
    return choose(name or os.environ["ISA"], features)


library.choose = _chosen  # type: ignore[attr-defined]
