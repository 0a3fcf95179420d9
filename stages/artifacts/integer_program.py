"""The network as integers only."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.artifact import ServedModel
from stages.backends.base import Executable, load_backend, predict
from stages.integer.bounds import INT16_MAX, layer_accumulators
from stages.integer.document import shared_weights
from stages.integer.files import read_program, write_program
from stages.integer.format import program_bytes
from stages.integer.packing import stored_bytes
from stages.integer.program import Integers, Program

MAX_SAMPLES = 4096
"""Samples of one request to a served program, where its model says nothing else."""

SERVED_BY = "native"
"""What answers requests that name no backend: the fastest, which others stand in for where it cannot run."""

_COMPILING = threading.RLock()


def _unlock() -> None:
    """In the child of a fork: a lock held by another thread stays held, since that thread is not here."""
    global _COMPILING
    _COMPILING = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unlock)


@dataclass(frozen=True, kw_only=True)
class IntegerProgram:
    """The network as integers only, and the ways to run it; from any thread, and in the child of a fork.

    Args:
        program: its operators.
        coded: the file that it is saved as, which `stages.integer.coded.encode_program` gave; None for
            ``program.json`` and ``tensors.safetensors``.
    """

    kind: ClassVar[str] = "integer_program"
    program: Program
    coded: bytes | None = None

    def save(self, directory: Path) -> None:
        """Write program.json and tensors.safetensors, or program.coded."""
        write_program(self.program, directory, self.coded)

    def write_files(self, run_dir: Path) -> None:
        """Write the run's ``program/``."""
        folder = run_dir / "program"
        folder.mkdir(exist_ok=True)
        self.save(folder)

    def served(self, run_dir: Path) -> ServedModel:
        """As a model that takes float images and gives logits, by `stages.serving`."""
        values = self.program.values
        return ServedModel(
            name="program",
            folder=run_dir / "program",
            loader_module="stages.serving",
            example=np.zeros((1, *values[self.program.input].shape), dtype=np.float32),
            outputs=tuple(values[self.program.output].shape),
            params={"backend": SERVED_BY},
            requirements=("numpy>=1.26", "safetensors>=0.4.5", "threadpoolctl>=3.1"),
            config={"max_samples": MAX_SAMPLES},
        )

    @classmethod
    def load(cls, directory: Path | str) -> Self:
        """Read a saved program; ValueError names the file and what is wrong with it."""
        program, coded = read_program(Path(directory))
        return cls(program=program, coded=coded)

    @cached_property
    def file_bytes(self) -> int:
        """The bytes of its file, or files."""
        return sum(map(len, program_bytes(self.program))) if self.coded is None else len(self.coded)

    @property
    def _executables(self) -> dict[str, Executable]:
        # one for all threads, as a cached_property would not be
        compiled: dict[str, Executable] = self.__dict__.setdefault("_compiled", {})
        return compiled

    def _executable(self, backend: str) -> Executable:
        if backend not in self._executables:
            with _COMPILING:  # once, whoever asks meanwhile
                if backend not in self._executables:
                    self._executables[backend] = load_backend(backend).compile(self.program)
        return self._executables[backend]

    def run(self, x: NDArray[np.float32], backend: str = "reference") -> NDArray[np.float32]:
        """Quantize float input (N, C, H, W), run on integers, dequantize: float32 logits (N, classes)."""
        return predict(self._executable(backend), self.program, x)

    def run_integers(self, q: Integers, backend: str = "reference") -> Integers:
        """Levels of the input value to levels of the output value, both with a batch dimension."""
        return self._executable(backend).run(q)

    def metrics(self) -> dict[str, float]:
        """``model/file_bytes``: all that is saved of it, everything in it.

        ``model/integer_bytes``: weights at their bits, shared ones once, biases, multipliers, zero points.

        ``convert/layers``: those that accumulate integers; ``convert/int16_layers``: those of them whose
        accumulators 16 bits would hold, whatever the input.
        """
        shared = shared_weights(self.program.ops)
        arrays = [
            tensor
            for op in self.program.ops
            for name, tensor in op.tensors.items()
            if not name.endswith("ratio") and not (name == "weight" and op.output in shared)
        ]
        accumulators = layer_accumulators(self.program).values()
        return {
            "model/file_bytes": float(self.file_bytes),
            "model/integer_bytes": float(sum(map(stored_bytes, arrays))),
            "convert/layers": float(len(accumulators)),
            "convert/int16_layers": float(sum(largest <= INT16_MAX for largest in accumulators)),
        }
