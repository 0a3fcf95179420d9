"""What the runs differ in: configuration groups and overridden settings."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.compare.records import Run

UNSET = "(not set)"
_BESIDE_THE_POINT = ("hydra", "objectives", "replay", "store", "sweep", "threads", "tracking")
"""Settings that change where and how a run is done, not what it computes."""


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The choices behind the runs.

    Args:
        varying: factor → the option of each run, for what differs between them.
        constant: factor → the option of all of them.
    """

    varying: dict[str, tuple[str, ...]]
    constant: dict[str, str]


def find_factors(runs: Sequence[Run]) -> Factors:
    """The configuration groups, then what any run's command line has set, then the seed."""
    commands = [dict(overrides(run)) for run in runs]
    names = dict.fromkeys(name for run in runs for name in _groups(run))
    names |= dict.fromkeys(name for command in commands for name in command)
    names |= dict.fromkeys(name for run in runs for name in run.tags.keys() & run.params.keys())
    columns = {
        name: tuple(_option(run, command, name) for run, command in zip(runs, commands, strict=True))
        for name in names
        if name.split(".")[0] not in _BESIDE_THE_POINT
    }
    return Factors(
        varying={name: options for name, options in columns.items() if len(set(options)) > 1},
        constant={
            name: options[0]
            for name, options in columns.items()
            if len(set(options)) == 1 and options[0] not in (UNSET, "None")
        },
    )


def ordered(options: Iterable[str]) -> list[str]:
    """Each option once: numbers by value, before words by the alphabet, before what is not set."""

    def key(option: str) -> tuple[int, float, str]:
        try:
            return 0, float(option), option
        except ValueError:
            return (2 if option == UNSET else 1), 0.0, option

    return sorted(set(options), key=key)


def choice(run: Run, name: str) -> str:
    """What one run has chosen: a group's option, or the resolved value of a setting, by config path."""
    return _option(run, dict(overrides(run)), name)


def overrides(run: Run) -> Iterator[tuple[str, str]]:
    """The settings of a run's command line, as (config path, text)."""
    text = run.tags.get("overrides", "")
    try:
        words = shlex.split(text)
    except ValueError:  # a value with a quotation mark in it, or one cut short
        words = text.split()
    for word in words:
        name, equals, value = word.lstrip("+~").partition("=")
        if equals:
            yield name.partition("@")[0].replace("/", "."), value


def _groups(run: Run) -> Iterator[str]:
    """Tags below whose name there are parameters: ``calibration``, for ``calibration.samples``."""
    folders = {name[:end] for name in run.params for end, letter in enumerate(name) if letter == "."}
    yield from (name for tag in sorted(run.tags) if (name := tag.replace("/", ".")) in folders)


def _option(run: Run, command: Mapping[str, str], name: str) -> str:
    """A group's option, or the resolved value of a setting."""
    for source, spelling in ((run.tags, name), (run.tags, name.replace(".", "/")), (run.params, name)):
        if spelling in source:
            return source[spelling]
    return command.get(name, UNSET)
