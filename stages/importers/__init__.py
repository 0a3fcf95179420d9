"""Foreign network files as ours, one file a format: `load_program` for quantized ones, `model=onnx` for all.

A format is a module that `PROGRAMS` names by the ending of its files; it is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import alternatives

if TYPE_CHECKING:
    from stages.integer.program import Program

PROGRAMS: Mapping[str, tuple[str, str, str]] = {
    ".onnx": ("onnx", "read_onnx", "onnx"),
    ".tflite": ("tflite", "read_tflite", "numpy"),
}
"""By ending: the module, its function from a path to a `Program`, and the package that it reads with."""


def read_program(path: Path) -> Program:
    """The integer program that a quantized file holds.

    Raises:
        ValueError: an unknown ending, a package that is missing, a damaged file, operators without a form in
            integers, a float network; names the file, the operator or tensor, and a remedy.
    """
    if path.suffix not in PROGRAMS:
        raise ValueError(f"{path}: ending '{path.suffix}'; {alternatives(path.suffix, PROGRAMS)}")
    if path.exists() and not path.is_file():  # to open a FIFO is to wait for who writes into it
        raise ValueError(
            f"{path}: is no regular file, but a folder, FIFO or device. Remedy: give the file itself"
        )
    module, function, package = PROGRAMS[path.suffix]
    if find_spec(package) is None:
        raise ValueError(
            f"{path}: {package} is not installed. Remedy: pip install 'quantization-pipeline[export]'"
        )
    program: Program = getattr(import_module(f"{__name__}.{module}"), function)(path)
    return program


def load_program(path: Path | str) -> Any:
    """The `stages.artifacts.IntegerProgram` of a quantized .onnx or .tflite file; see `read_program`."""
    artifacts = import_module("stages.artifacts")  # a layer above: who runs a program need not import one
    return artifacts.IntegerProgram(program=read_program(Path(path)))
