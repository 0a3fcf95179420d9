"""The protocol of an exporter, which writes an integer program in the format of another runtime."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import stages.exporters
from pipeline.errors import PipelineError
from stages.data.description import Description
from stages.integer.program import Program
from stages.quant.quantizers.base import WeightsAndActivations

REFUSED = "refused.txt"
"""In an export's folder, why there is nothing else."""


@runtime_checkable
class Exporter(Protocol):
    """A frozen dataclass that configuration chooses. Its module names the class ``EXPORTER``.

    The module imports what `requires` names only when it writes, so that it can be asked without.
    """

    name: ClassVar[str]
    """Its module's name in `stages.exporters`, its option in the ``export`` group, its folder."""

    requires: ClassVar[tuple[str, ...]]
    """The packages that it writes with, of the extra ``export``."""

    def refusals(self, program: Program) -> list[str]:
        """Why it cannot write `program`, each reason with the operator, its name and a remedy; else empty."""

    def write(self, program: Program, description: Description | None, folder: Path) -> Path:
        """Write the files into `folder`, which exists; returns the one to start from.

        `program` is one of which `refusals` says nothing.
        """


@runtime_checkable
class JudgesQuantizer(Protocol):
    """An exporter that knows of schemes which it cannot write, before a program is made."""

    def misfits(self, quantizer: WeightsAndActivations) -> Iterator[str]:
        """Why it cannot write what `quantizer` gives, each with its configuration path and a remedy."""


def check_installed(exporter: Exporter) -> None:
    """Raise `PipelineError` where a package is missing that the exporter writes with."""
    for package in exporter.requires:
        if find_spec(package) is None:
            raise PipelineError(
                f"export={exporter.name}: {package} is not installed. "
                "Remedy: pip install 'quantization-pipeline[export]'"
            )


def no_form(program: Program, known: frozenset[str], target: str) -> list[str]:
    """A refusal for each kind of operator that is not among the `known` ones, with the operators' names."""
    kinds = sorted({op.op for op in program.ops} - known)
    return [
        f"no form in {target} for {kind} ({named([op.output for op in program.ops if op.op == kind])}). "
        "Remedy: leave this export out, or a network without it"
        for kind in kinds
    ]


def exporters() -> Iterator[Exporter]:
    """Every exporter with its default settings, by name."""
    for found in pkgutil.iter_modules(stages.exporters.__path__):
        module = import_module(f"stages.exporters.{found.name}")
        if hasattr(module, "EXPORTER"):
            yield module.EXPORTER()


def named(names: list[str], most: int = 3) -> str:
    """The first of `names`, in a row."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
