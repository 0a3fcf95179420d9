"""``python -m pipeline.predict program=PATH input=PATH``: what a saved program says of images and arrays.

PATH of the program is the ``program/`` folder that a run left, or a .tflite or .onnx file; an input is an
image, a folder of images or an array (.npy, or ``all.npz:key``), several as ``input=[a.png,b.png]`` or bare
names. Each sample is a line of JSON on standard output, in order:

    {"input": "a.png", "label": "cat", "index": 3, "score": 0.98, "top": [{"label": …}, …]}

``row`` says which of an array; the label is null where nothing names the classes. Other tasks than
classification answer with what they mean: ``values`` (regression), ``vector`` (embedding), ``labels``
(multilabel), ``classes`` and ``runs`` of a map (segmentation). Notes, progress, and a line for each input
that cannot be read go to standard error; then the command ends with 1, the others being answered.

``top=5 batch_size=64 task=NAME preprocessing=PATH``; other overrides are a run's: ``backend=reference``,
``backend.threads=1``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console as RichConsole

from pipeline.command_line import CommandLine
from pipeline.configuration.builder import Builder
from pipeline.configuration.composed import composed
from pipeline.console import Console
from pipeline.errors import ConfigError

OWN = ("top", "batch_size", "task")
"""Keys that stand for ``predict.<key>``."""


@runtime_checkable
class Predicting(Protocol):
    """What the configuration's key ``predict`` builds."""

    def run(
        self,
        program: Path,
        inputs: Sequence[str],
        console: Console,
        write: Callable[[dict[str, Any]], None],
    ) -> int:
        """Write an answer for each sample; returns how many there is none for."""


def main(arguments: Sequence[str]) -> int:
    """Compose, build ``predict``, and answer; returns the exit code."""
    parser = CommandLine(
        prog="python -m pipeline.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help="program=PATH input=PATH top=5 backend=native …")
    parser.add_argument("--config-dir", type=Path, help="a folder with options of your own")
    given = parser.parse_intermixed_args(arguments)
    out = sys.stdout  # a progress bar takes its place
    # where answers come to the terminal, they show how far it is
    console = Console(
        rich=RichConsole(stderr=True, highlight=False, force_terminal=False if out.isatty() else None)
    )

    def write(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer, ensure_ascii=False) + "\n")
        out.flush()

    try:
        return _predict(given.overrides, given.config_dir, console, write)
    except (HydraException, OmegaConfBaseException) as error:  # a PipelineError is the former
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads has seen enough, as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return 1


def _predict(
    given: Sequence[str], own: Path | None, console: Console, write: Callable[[dict[str, Any]], None]
) -> int:
    paths: dict[str, str] = {}
    inputs: list[str] = []
    overrides: list[str] = []
    for one in given:
        key, equals, value = one.partition("=")
        if key == "input" or not equals:
            inputs += _names(value) if equals else [one]
        elif key in ("program", "preprocessing"):
            paths[key] = value
        else:
            overrides.append(f"predict.{one}" if key in OWN else one)
    if not paths.get("program"):
        raise ConfigError(
            "program: missing. Remedy: program=PATH, the program/ folder that a run left, or a .tflite "
            "or .onnx file"
        )
    if not inputs:
        raise ConfigError(
            "input: missing. Remedy: input=PATH, an image, a folder of images or an array (.npy)"
        )
    config = composed(overrides, own)
    if "preprocessing" in paths:  # as a path, whatever characters it has
        OmegaConf.update(config, "predict.preprocessing", paths["preprocessing"])
    builder = Builder(config)
    built = builder.build("predict")
    builder.raise_problems()
    for line in builder.user_code:
        console.say(f"user code: {line}")
    if not isinstance(built, Predicting):
        raise ConfigError("predict: must be a component with run(program, inputs, console, write)")
    return 1 if built.run(Path(paths["program"]), inputs, console, write) else 0


def _names(value: str) -> list[str]:
    """One name, or a list as Hydra writes it: ``[a.png,b.png]``."""
    if not value.startswith("[") or Path(value).exists():
        return [value]
    try:
        listed: Any = OverridesParser.create().parse_override(f"input={value}").value()
    except HydraException as error:
        raise ConfigError(
            f"input={value}: not read as a list ({str(error).splitlines()[0]}). Remedy: quote its names, "
            "'input=[\"a b.png\",c.png]', or give them one by one"
        ) from error
    return [str(name) for name in listed]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
