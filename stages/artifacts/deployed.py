"""A program as it is found on disk, with what is said of it: a folder that a run left, or a foreign file."""

from __future__ import annotations

from collections.abc import Iterator
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
        path: the program/ folder that a run left, or a .tflite or .onnx file, whose metadata says what a
            ``preprocessing.json`` says where we wrote it.
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
    if said is None and foreign:
        return program, _written_in(path, program) or Description.load(path.parent)
    if said is None:
        return program, Description.load(path)
    folder = said.parent if said.name == FILE else said
    if not (folder / FILE).is_file():
        raise PipelineError(f"preprocessing={said}: no {FILE} there. Remedy: name the file, or its folder")
    return program, Description.load(folder)


def _written_in(path: Path, program: IntegerProgram) -> Description | None:
    """What the metadata of a file that we exported says; None where it says nothing of this program."""
    try:
        found = Description.of_metadata(dict(_METADATA[path.suffix.lower()](path)))
    except Exception:  # readers of other formats raise their own; the program itself has been read
        return None
    shape = program.program.values[program.program.input].shape
    return found if found is not None and found.shape == shape else None


def _onnx_metadata(path: Path) -> Iterator[tuple[str, str]]:
    import onnx

    for entry in onnx.load(path, load_external_data=False).metadata_props:
        yield entry.key, entry.value


def _tflite_metadata(path: Path) -> Iterator[tuple[str, str]]:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    for entry in model.metadata or ():
        yield entry.name.decode(), bytes(model.buffers[entry.buffer].data).decode()


_METADATA = {".onnx": _onnx_metadata, ".tflite": _tflite_metadata}


def _imported(path: Path) -> IntegerProgram:
    if find_spec("stages.importers") is None:
        raise PipelineError(
            f"program={path}: nothing here reads {path.suffix}. Remedy: the program/ folder that a run left"
        )
    if not path.is_file():
        raise PipelineError(f"program={path}: no such file (looked in {Path.cwd()})")
    program: IntegerProgram = import_module("stages.importers").load_program(path)
    return program
