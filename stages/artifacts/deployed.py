"""A program as it is found on disk, with what is said of it: a folder that a run left, or a foreign file."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import PipelineError
from stages.artifacts.integer_program import IntegerProgram
from stages.data.description import FILE, Description

FOREIGN = frozenset({".tflite", ".onnx"})
"""Files that `stages.importers` reads."""


def read_deployed(path: Path, said: Path | None = None) -> tuple[IntegerProgram, Description | None]:
    """The program at `path`, and what its input and outputs mean; None where nothing says so.

    Args:
        path: the program/ folder that a run left, or a .tflite or .onnx file.
        said: a ``preprocessing.json``, or the folder that it lies in; None for the program's own.

    Raises:
        PipelineError: no program there, or none that can be read; names the path.
    """
    foreign = path.suffix.lower() in FOREIGN and not path.is_dir()
    try:
        program = _imported(path) if foreign else IntegerProgram.load(path)
    except PipelineError:
        raise
    except (ValueError, OSError) as error:
        raise PipelineError(f"program={path}: {error}") from error
    if said is None:
        return program, Description.load(path.parent if foreign else path)
    folder = said.parent if said.name == FILE else said
    if not (folder / FILE).is_file():
        raise PipelineError(f"preprocessing={said}: no {FILE} there. Remedy: name the file, or its folder")
    return program, Description.load(folder)


def _imported(path: Path) -> IntegerProgram:
    if find_spec("stages.importers") is None:
        raise PipelineError(
            f"program={path}: nothing here reads {path.suffix}. Remedy: the program/ folder that a run left"
        )
    if not path.is_file():
        raise PipelineError(f"program={path}: no such file (looked in {Path.cwd()})")
    program: IntegerProgram = import_module("stages.importers").load_program(path)
    return program
