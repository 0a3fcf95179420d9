"""``python -m pipeline.check [overrides]``: what would become of a network, in seconds, before any run.

The overrides are a run's: ``model=…``, ``quantizer=…``. Of the data set only the shape of its samples and
the number of its classes are asked; ``check.shape=[3,224,224] check.num_classes=10`` does without one. Exits
with 0 where the network runs on integers, with 1 where it does not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console as RichConsole

from pipeline.command_line import CommandLine
from pipeline.configuration.builder import Builder
from pipeline.configuration.composed import composed
from pipeline.console import Console
from pipeline.errors import ConfigError

WIDTH = 140
"""Columns of the tables where there is no terminal."""


@runtime_checkable
class Inspection(Protocol):
    """What the configuration's key ``check`` builds."""

    def run(self, console: Console) -> bool:
        """Print what is found; returns whether nothing is refused."""


def main(arguments: Sequence[str]) -> int:
    """Compose, build ``check`` with what it refers to, and run it; returns the exit code."""
    parser = CommandLine(prog="python -m pipeline.check", description=__doc__.split("\n\n")[0])
    parser.add_argument("overrides", nargs="*", help="as of a run: model=resnet20 data=cifar10")
    parser.add_argument("--config-dir", type=Path, help="a folder with options of your own")
    given = parser.parse_intermixed_args(arguments)
    # a file or a pipe has no width of its own, and names are long
    console = Console(rich=RichConsole(highlight=False, width=None if sys.stdout.isatty() else WIDTH))
    try:
        return 0 if _inspection(given.overrides, given.config_dir, console).run(console) else 1
    except (HydraException, OmegaConfBaseException) as error:  # a PipelineError is the former
        print(error, file=sys.stderr)
        return 1


def _inspection(overrides: Sequence[str], folder: Path | None, console: Console) -> Inspection:
    config = composed(overrides, folder)
    if OmegaConf.select(config, "check.shape") is not None:
        OmegaConf.update(config, "check.data", None)  # not built: its files need not be there
    builder = Builder(config)
    inspection = builder.build("check")
    try:
        builder.raise_problems()
    except ConfigError as error:
        raise ConfigError(
            f"{error}\n  (check.shape=[3,224,224] check.num_classes=10 need no data)"
        ) from error
    for line in builder.user_code:
        console.say(f"user code: {line}")
    if not isinstance(inspection, Inspection):
        raise ConfigError(
            "check: must be a component with run(console), as check._target_=stages.check.Check"
        )
    return inspection


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
