"""Stage *load*: an integer program from a folder, to be measured without the network that it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs
from stages.artifacts import IntegerProgram

FILES = ("program.json", "tensors.safetensors")


@dataclass(frozen=True, kw_only=True)
class Load:
    """Take the place of all stages before *evaluate*.

    Args:
        program: the folder that a run left as ``program/``, relative to the folder the command starts in.
    """

    name: ClassVar[str] = "load"
    consumes: ClassVar[tuple[type, ...]] = ()
    produces: ClassVar[type] = IntegerProgram
    cacheable: ClassVar[bool] = True

    program: str

    def check(self) -> None:
        """`fingerprint` has found the files."""

    def fingerprint(self) -> str:
        """The sha256 of the program's files. Raises `PipelineError` where one is missing."""
        digest = hashlib.sha256()
        for name in FILES:
            try:
                digest.update(hashlib.sha256((Path(self.program) / name).read_bytes()).digest())
            except OSError as error:
                raise PipelineError(
                    f"program={self.program}: no {name} there ({error.strerror}); name the program/ folder "
                    "that a run left"
                ) from error
        return digest.hexdigest()

    def run(self, ctx: RunContext, inputs: Inputs) -> IntegerProgram:
        """Read and check it."""
        try:
            return IntegerProgram.load(self.program)
        except ValueError as error:
            raise PipelineError(f"program={self.program}: {error}") from error
