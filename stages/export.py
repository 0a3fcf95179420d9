"""Stages *export_<name>*: the program in the formats of other runtimes, a stage each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs, Stage
from stages.artifacts import IntegerProgram
from stages.artifacts.deployed import read_deployed
from stages.data.description import Description
from stages.exporters.exporter import REFUSED, Exporter, JudgesQuantizer, check_installed
from stages.quant.quantizers.chosen import chosen_quantizer


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write ``<run>/export/<name>/`` from the run's program.

    Args:
        exporter: the format.
        refusals: a program that the format cannot take stops the run, or is ``named``: the reasons are shown,
            and written to ``<run>/export/<name>/refused.txt`` in the place of the files.
    """

    consumes: ClassVar[tuple[type, ...]] = (IntegerProgram,)
    produces: ClassVar[None] = None
    cacheable: ClassVar[bool] = False

    exporter: Exporter
    refusals: Literal["stop", "named"] = "stop"

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
        quantizer = chosen_quantizer(stages) if self.refusals == "stop" else None
        if quantizer is not None and isinstance(self.exporter, JudgesQuantizer):
            for reason in self.exporter.misfits(quantizer):
                yield f"export={self.exporter.name}: {reason}"

    def check(self) -> None:
        """Raise where a package is missing that the format needs; not where refusals are named."""
        if self.refusals == "stop":
            check_installed(self.exporter)

    def run(self, ctx: RunContext, inputs: Inputs) -> None:
        """Write the files into the run's folder; record how many bytes they have."""
        description = Description.load(ctx.run_dir / "program")
        try:
            written = self.write(inputs[IntegerProgram], description, ctx.run_dir / "export")
        except PipelineError as error:
            if self.refusals == "stop":
                raise
            ctx.console.warn(str(error))
            folder = ctx.run_dir / "export" / self.exporter.name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / REFUSED).write_text(f"{error}\n", encoding="utf-8")
            return
        files = (path for path in written.parent.rglob("*") if path.is_file())
        ctx.tracker.metrics(
            {f"export/{self.exporter.name}/bytes": float(sum(path.stat().st_size for path in files))}
        )

    def export(self, program: Path, folder: Path) -> Path:
        """Write the program at `program`, a run's folder or a foreign file; returns the file to start from.

        Raises:
            PipelineError: the program cannot be read, or not be written so; a package is missing.
        """
        check_installed(self.exporter)
        return self.write(*read_deployed(program), folder)

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
        refusals: as `Export` has it.
    """

    exporters: Mapping[str, Exporter | None] = field(default_factory=dict)
    refusals: Literal["stop", "named"] = "stop"

    def stages(self) -> Sequence[Export]:
        """In the order they were chosen."""
        chosen = (one for one in self.exporters.values() if one is not None)
        return [Export(exporter=one, refusals=self.refusals) for one in chosen]
