"""Stage *export_onnx_qdq*: the program as an ONNX file that onnxruntime and OpenVINO run on integers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

from pipeline.context import RunContext
from pipeline.errors import PipelineError
from pipeline.stage import Inputs, Stage
from stages.artifacts import IntegerProgram
from stages.data.description import Description


@dataclass(frozen=True, kw_only=True)
class ExportOnnxQdq:
    """Write ``export/onnx_qdq/model.onnx``; see `stages.exporters.onnx_qdq`.

    The file's metadata says what ``program/preprocessing.json`` says: shape, mean, std, classes, each JSON.

    Args:
        batch: samples a call; None leaves the number open.
        residual: how a sum with a layer's second input is written.
    """

    name: ClassVar[str] = "export_onnx_qdq"
    consumes: ClassVar[tuple[type, ...]] = (IntegerProgram,)
    produces: ClassVar[None] = None
    cacheable: ClassVar[bool] = False

    batch: int | None = None
    residual: Literal["exact", "requantized"] = "requantized"

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch={self.batch}: must be at least 1, or null to leave it open")

    def misfits(self, stages: Sequence[Stage]) -> Iterator[str]:
        """A run without a program."""
        if not any(stage.produces is IntegerProgram for stage in stages):
            yield (
                "export=onnx_qdq: the run makes no integer program to write. Remedy: a backend that runs "
                "integers, as backend=native, or no export"
            )

    def check(self) -> None:
        """Raise where ONNX is not installed."""
        if find_spec("onnx") is None:
            raise PipelineError(
                "export=onnx_qdq: onnx is not installed. Remedy: pip install 'quantization-pipeline[export]'"
            )

    def run(self, ctx: RunContext, inputs: Inputs) -> None:
        """Write the file into the run's folder. Raises `PipelineError` naming what has no form in ONNX."""
        program: IntegerProgram = inputs[IntegerProgram]
        self.write(program, Description.load(ctx.run_dir / "program"), ctx.run_dir / "export" / "onnx_qdq")

    def export(self, program: Path, folder: Path) -> Path:
        """Write the saved program in the folder `program` into ``folder/onnx_qdq``; returns the file.

        Raises:
            PipelineError: the program cannot be read, or not be written as ONNX; onnx is not installed.
        """
        self.check()
        try:
            loaded = IntegerProgram.load(program)
        except (ValueError, OSError) as error:
            raise PipelineError(f"program={program}: {error}") from error
        return self.write(loaded, Description.load(program), folder / "onnx_qdq")

    def write(self, integers: IntegerProgram, description: Description | None, folder: Path) -> Path:
        """Write ``model.onnx`` into `folder`, made where it is missing; returns its path."""
        import onnx  # an extra, found by `check`

        from stages.exporters.onnx_qdq import program_to_onnx, refusals

        program = integers.program
        if refused := refusals(program):
            where = [f"{op.op} ({op.output})" for op in program.ops if op.op in refused]
            raise PipelineError(
                f"export=onnx_qdq: no form in ONNX for {', '.join(where)}. Remedy: leave this export out, or "
                "a network without these operators (python -m pipeline.check says so before a run)"
            )
        model = program_to_onnx(program, self.batch, residual=self.residual)
        if description is not None:
            onnx.helper.set_model_props(model, description.metadata())
        folder.mkdir(parents=True, exist_ok=True)
        onnx.save(model, folder / "model.onnx")
        return folder / "model.onnx"
