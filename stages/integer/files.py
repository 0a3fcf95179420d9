"""A program's folder, in either form: ``program.json`` and ``tensors.safetensors``, or ``program.coded``."""

from __future__ import annotations

from pathlib import Path

from stages.integer.coded import decode_program
from stages.integer.format import load_program, save_program
from stages.integer.program import Program

CODED = "program.coded"
PLAIN = ("program.json", "tensors.safetensors")


def program_files(folder: Path) -> tuple[str, ...]:
    """The names of the files that hold the program in `folder`: the coded one's where it is there."""
    return (CODED,) if (folder / CODED).exists() else PLAIN


def read_program(folder: Path) -> tuple[Program, bytes | None]:
    """The program, and the coded file where that is its form.

    Raises:
        ValueError: a file is missing, damaged, of another version, or holds no valid program; names the file.
    """
    if program_files(folder) == PLAIN:
        return load_program(folder), None
    path = folder / CODED
    if not path.is_file():
        raise ValueError(f"{path}: not a readable integer program (is no regular file)")
    try:
        data = path.read_bytes()
        return decode_program(data), data
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def write_program(program: Program, folder: Path, coded: bytes | None = None) -> None:
    """Write the program into `folder`, in one form alone.

    Args:
        program: plainly;
        folder: of a program, or empty;
        coded: or in this form, which `stages.integer.coded.encode_program` gave.
    """
    for name in PLAIN if coded is not None else (CODED,):
        (folder / name).unlink(missing_ok=True)
    if coded is None:
        save_program(program, folder)
    else:
        (folder / CODED).write_bytes(coded)
