"""Command-line overrides that Hydra's grammar does not read as they were meant: how to quote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pipeline.configuration.schema import RunConfig
from pipeline.errors import ConfigError

_KEPT = {field.name for field in fields(RunConfig)} - {"tracking"}  # a group: none of it is refused elsewhere


def check_overrides(arguments: Sequence[str]) -> None:
    """Raise `ConfigError` for the first override that cannot be read, with the same one quoted.

    A value with ``=``, brackets or the like needs quotes of Hydra's within those of the shell. So does one
    with a comma, which is read as values to sweep over: Hydra says so where the run is no sweep.

    Args:
        arguments: of the command line, options among them, which are left alone.
    """
    parser = OverridesParser.create()
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if argument.startswith("-") or not equals:
            if argument.removeprefix("~") in _KEPT and argument.startswith("~"):
                raise ConfigError(f"{argument}: every run has it. Remedy: {argument[1:]}=… changes it")
            continue
        try:
            parser.parse_override(argument)
        except HydraException as error:
            raise ConfigError(
                f"{argument}: not read ({str(error).splitlines()[0]}).\n"
                "Remedy: where the value is one text, as a file's name, quote it for Hydra, and all of it "
                f"for the shell:\n  {quoted(key, value)}"
            ) from error


def quoted(key: str, value: str) -> str:
    """An override as a shell takes it, its value one text to Hydra: ``'model.weights="a=b.ckpt"'``."""
    inner = value.strip("'\"").replace('"', '\\"').replace("'", "'\\''")
    return f"'{key}=\"{inner}\"'"
