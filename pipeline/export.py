"""``python -m pipeline.export program=PATH export=[onnx_qdq]``: a saved program in the formats of others.

PATH is the ``program/`` folder that a run left, or a .tflite or .onnx file. Files go to ``export/<name>/``
beside it, or below ``to=FOLDER``. Other overrides are a run's: ``export.onnx_qdq.batch=1``. Nothing is
computed or recorded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pipeline.command_line import CommandLine
from pipeline.configuration.builder import Builder
from pipeline.configuration.composed import composed
from pipeline.disk import refusal_of
from pipeline.errors import ConfigError
from pipeline.place import CONF
from pipeline.stage import in_order


@runtime_checkable
class WithoutRun(Protocol):
    """A stage of the entry ``export`` among a run's stages."""

    def export(self, program: Path, folder: Path) -> Path:
        """Write the saved `program` below `folder`; returns the file."""


def main(arguments: Sequence[str]) -> int:
    """Compose, build ``export``, and let each option write; returns the exit code."""
    parser = CommandLine(prog="python -m pipeline.export", description=__doc__.split("\n\n")[0])
    parser.add_argument("overrides", nargs="*", help="program=PATH export=[NAME,…] to=FOLDER")
    parser.add_argument("--config-dir", type=Path, help="a folder with options of your own")
    given = parser.parse_intermixed_args(arguments)
    try:
        _export(given.overrides, given.config_dir)
    except (HydraException, OmegaConfBaseException) as error:  # a PipelineError is the former
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if (reason := refusal_of(error)) is None:
            raise
        print(f"to: {reason}", file=sys.stderr)
        return 1
    return 0


def _export(given: Sequence[str], own: Path | None) -> None:
    paths = {
        key: value for key, _, value in (one.partition("=") for one in given) if key in ("program", "to")
    }
    overrides = [one for one in given if one.partition("=")[0] not in paths]
    if not paths.get("program"):
        raise ConfigError("program: missing. Remedy: program=PATH, the program/ folder that a run left")
    program = Path(paths["program"])
    builder = Builder(composed(overrides, own))
    built = builder.build("stages.export")
    builder.raise_problems()
    chosen = in_order({"export": built})
    if not chosen:
        names = ", ".join(_options())
        raise ConfigError(f"export: names nothing. Remedy: export=[NAME,…], of {names}")
    for stage in chosen:
        if not isinstance(stage, WithoutRun):
            raise ConfigError(f"stages.export: {type(stage).__name__} has no export(program, folder)")
        print(stage.export(program, Path(paths.get("to") or program.resolve().parent / "export")))


def _options() -> list[str]:
    """The group's options that come with the pipeline."""
    folder = CONF / "export"
    return sorted(path.name.removesuffix(".yaml") for path in folder.iterdir())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
