"""Observation in C++ (``source/observe.cpp``), by which `Statistics` takes in batches where there is one."""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from stages.backends.native_kernels.library import load
from stages.quant.statistics import BINS

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NativeTaking:
    """Takes in rows on all threads that torch computes on; `stages.quant.statistics.TakeRows`.

    Args:
        functions: the library.
        parallel: the address of ``GOMP_parallel``; None to stay on one thread.
        isa: what the library is compiled for.
    """

    functions: ctypes.CDLL
    parallel: int | None
    isa: str

    def __call__(self, x: Tensor, exponent: int, counts: Tensor | None) -> tuple[Tensor, int]:
        """See `TakeRows`."""
        rows = torch.empty(len(x), 2)
        raised = self.functions.observe(
            x.data_ptr(),
            len(x),
            x.stride(0),
            x.shape[1],
            rows.data_ptr(),
            None if counts is None else counts.data_ptr(),
            exponent,
            torch.get_num_threads(),
            self.parallel,
        )
        return rows, int(raised)


@cache
def find_taking(isa: str | None = None) -> NativeTaking | None:
    """The library's way to take in rows; None where there is none, and the log says why.

    Args:
        isa: an instruction set's name; None for the fastest of this CPU.

    Raises:
        PipelineError: this CPU lacks the instruction set.
    """
    found = load(isa, "observe")
    if isinstance(found, str):
        log.info("observe: torch counts: %s", found)
        return None
    functions, chosen = found
    if functions.bins() != BINS:
        log.warning("observe: torch counts: the library has %d bins, not %d", functions.bins(), BINS)
        return None
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    functions.observe.restype = ctypes.c_int32
    functions.observe.argtypes = [
        *(pointer, integer, integer, integer, pointer, pointer),
        *(ctypes.c_int32, ctypes.c_int32, pointer),
    ]
    return NativeTaking(functions=functions, parallel=_parallel(), isa=chosen.name)


def _parallel() -> int | None:
    """GCC's entry to OpenMP, of the runtime that torch has loaded; LLVM's and Intel's have it too, on Linux.

    Torch's threads spin for a while after each operator, so that others' would have to wait for a core.
    """
    try:
        here: Any = ctypes.CDLL(None)
        return ctypes.cast(here.GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, TypeError, OSError):  # another system, or another runtime
        return None
