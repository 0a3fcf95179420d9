"""Finding an operator's kernel: the module of its name in `stages.integer.kernels`.

A kernel module declares ``SIGNATURE`` and has one entry, ``prepare(op, program) -> Kernel``: what depends on
the program alone (operands of products, tables) is computed there, once. A kernel maps integer arrays
(N, *shape) to one, in the dtypes of the program's values, whatever their memory order, and never writes to
its inputs; its result may be a view of them.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType

import stages.integer.kernels
import stages.integer.profiles
from pipeline.errors import alternatives
from stages.integer.program import Integers, Op, Program
from stages.integer.signature import Signature

Kernel = Callable[..., Integers]
Prepare = Callable[[Op, Program], Kernel]


def prepare_kernel(op: Op, program: Program) -> Kernel:
    """The reference kernel of an operator, ready to run: its profile's, where the program names one.

    Raises:
        ValueError: an unknown operator.
    """
    own = has_profile(op, program)
    module = import_module(f"stages.integer.profiles.{program.requantize}.{op.op}") if own else _module(op)
    prepare: Prepare = module.prepare
    return prepare(op, program)


def has_profile(op: Op, program: Program) -> bool:
    """Whether the program's arithmetic computes the operator otherwise than its ratios say."""
    return op.op in _profile(program.requantize)


def signature(op: Op) -> Signature:
    """What the operator takes and gives. Raises ValueError for an unknown operator."""
    declared: Signature = _module(op).SIGNATURE
    return declared


def _module(op: Op) -> ModuleType:
    if op.op not in _names():
        raise ValueError(f"'{op.output}': unknown operator '{op.op}'; {alternatives(op.op, _names())}")
    return import_module(f"stages.integer.kernels.{op.op}")


@cache
def _profile(name: str) -> frozenset[str]:
    """The operators of a profile; none for our own arithmetic."""
    for folder in stages.integer.profiles.__path__:
        return frozenset(module.name for module in pkgutil.iter_modules([f"{folder}/{name}"]))
    return frozenset()


@cache
def _names() -> frozenset[str]:
    return frozenset(module.name for module in pkgutil.iter_modules(stages.integer.kernels.__path__))
