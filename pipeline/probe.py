"""``python -m pipeline.probe [overrides]``: which integers the installed runtimes give, operator by operator.

Networks of one operator are fed where the roundings disagree, and each runtime's integers compared with those
of our arithmetics. ``probe.runtimes=[tflm] probe.operators=[conv2d]`` asks some; ``--json`` prints the table
for a machine.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console as RichConsole

from pipeline.command_line import CommandLine
from pipeline.configuration.builder import Builder
from pipeline.configuration.composed import composed
from pipeline.console import Console
from pipeline.errors import ConfigError

WIDTH = 140
"""Columns of the table where there is no terminal."""


@runtime_checkable
class Questions(Protocol):
    """What the configuration's key ``probe`` builds."""

    def run(self, console: Console) -> Sequence[Mapping[str, Any]]:
        """Ask, print what is found, and return it."""


def main(arguments: Sequence[str]) -> int:
    """Compose, build ``probe`` alone, and run it; returns the exit code."""
    parser = CommandLine(prog="python -m pipeline.probe", description=__doc__.split("\n\n")[0])
    parser.add_argument("overrides", nargs="*", help="probe.runtimes=[tflm] probe.operators=[conv2d]")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON, and nothing else")
    given = parser.parse_intermixed_args(arguments)
    width = None if sys.stdout.isatty() else WIDTH
    console = Console(quiet=given.json, rich=RichConsole(highlight=False, width=width))
    try:
        with _said_elsewhere() if given.json else nullcontext():
            found = _questions(given.overrides).run(console)
    except (HydraException, OmegaConfBaseException) as error:  # a PipelineError is the former
        print(error, file=sys.stderr)
        return 1
    if given.json:
        print(json.dumps(list(found), indent=2, ensure_ascii=False))
    return 0


@contextmanager
def _said_elsewhere() -> Iterator[None]:
    """Let what native libraries write to the standard output go to the error output."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _questions(overrides: Sequence[str]) -> Questions:
    builder = Builder(composed(overrides))
    built = builder.build("probe")
    builder.raise_problems()
    if not isinstance(built, Questions):
        raise ConfigError(
            "probe: must be a component with run(console), as probe._target_=stages.probe.Probe"
        )
    return built


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
