"""Stages *export_<name>*: the program in the formats of other runtimes, a stage each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs, Stage
from stages.artifacts import IntegerProgram
from stages.data.description import Description
from stages.exporters.exporter import Exporter, JudgesQuantizer, check_installed
from stages.quant.quantizers.chosen import chosen_quantizer


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write ``<run>/export/<name>/`` from the run's program.

    Args:
        exporter: the format.
    """

    consumes: ClassVar[tuple[type, ...]] = (IntegerProgram,)
    produces: ClassVar[None] = None
    cacheable: ClassVar[bool] = False

    exporter: Exporter

    @property
    def name(self) -> str:
        """``export_onnx_qdq``."""
        return f"export_{self.exporter.name}"

    def misfits(self, stages: Sequence[Stage]) -> Iterator[str]:
        """A run without a program; a quantizer that the format has no form for."""
        if not any(stage.produces is IntegerProgram for stage in stages):
            yield (
                f"export={self.exporter.name}: the run makes no integer program to write. Remedy: a backend "
                "that runs integers, as backend=native, or no export"
            )
        quantizer = chosen_quantizer(stages)
        if quantizer is not None and isinstance(self.exporter, JudgesQuantizer):
            for reason in self.exporter.misfits(quantizer):
                yield f"export={self.exporter.name}: {reason}"

    def check(self) -> None:
        """Raise where a package is missing that the format needs."""
        check_installed(self.exporter)

    def run(self, ctx: RunContext, inputs: Inputs) -> None:
        """Write the files into the run's folder; record how many bytes they have."""
        description = Description.load(ctx.run_dir / "program")
        written = self.write(inputs[IntegerProgram], description, ctx.run_dir / "export")
        files = (path for path in written.parent.rglob("*") if path.is_file())
        ctx.tracker.metrics(
            {f"export/{self.exporter.name}/bytes": float(sum(path.stat().st_size for path in files))}
        )

    def export(self, program: Path, folder: Path) -> Path:
        """Write the saved program in the folder `program` below `folder`; returns the file to start from.

        Raises:
            PipelineError: the program cannot be read, or not be written so; a package is missing.
        """
        self.check()
        try:
            loaded = IntegerProgram.load(program)
        except (ValueError, OSError) as error:
            raise PipelineError(f"program={program}: {error}") from error
        return self.write(loaded, Description.load(program), folder)

    def write(self, integers: IntegerProgram, description: Description | None, folder: Path) -> Path:
        """Write ``<name>/`` below `folder`, whole or not at all; returns the file to start from.

        Raises:
            PipelineError: what the format has no form for, all of it.
        """
        name = self.exporter.name
        if refused := self.exporter.refusals(integers.program):
            raise PipelineError("\n  ".join(f"export={name}: {reason}" for reason in refused))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-") as scratch:
            whole = Path(scratch) / name
            whole.mkdir()
            written = self.exporter.write(integers.program, description, whole)
            shutil.rmtree(folder / name, ignore_errors=True)
            whole.rename(folder / name)
        return folder / name / written.relative_to(whole)


@dataclass(frozen=True, kw_only=True)
class Exports:
    """A stage for each format that configuration chooses.

    Args:
        exporters: by name; None where an option is not chosen.
    """

    exporters: Mapping[str, Exporter | None] = field(default_factory=dict)

    def stages(self) -> Sequence[Export]:
        """In the order they were chosen."""
        return [Export(exporter=one) for one in self.exporters.values() if one is not None]
