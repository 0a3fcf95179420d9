"""The command line's options, brought before its overrides, and refused in words of our own."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Sequence

from hydra._internal.utils import get_args_parser  # hydra.main's own; Hydra publishes no other

from pipeline.errors import ConfigError, alternatives

_REFUSED = {
    "--experimental-rerun": "reads a pickle, which can run any code. Remedy: replay=<mlflow run id> runs a "
    "recorded run again",
}


def options_first(arguments: Sequence[str]) -> list[str]:
    """Order a command line as Hydra's parser takes it: options, then overrides.

    The parser stops at the first option behind an override and calls the overrides after it unknown.

    Raises:
        ConfigError: an option that there is not, one without its value, or with one that it does not take.
    """
    known = {name: action for action in get_args_parser()._actions for name in action.option_strings}
    options: list[str] = []
    overrides: list[str] = []
    rest = deque(arguments)
    while rest:
        argument = rest.popleft()
        name, equals, value = argument.partition("=")
        if not argument.startswith("-"):
            overrides.append(argument)
        elif name in _REFUSED:
            raise ConfigError(f"{name}: {_REFUSED[name]}")
        elif name not in known:
            names = [option for option in known if option.startswith("--") and option not in _REFUSED]
            raise ConfigError(f"{argument}: no such option; {alternatives(name, names)}")
        elif known[name].nargs == 0:
            options.append(argument)
        else:
            if not equals:
                value = _following(known[name], rest, name)
            _check_choice(known[name], name, value)
            options += [name, value]
    return [*options, *overrides]


def _following(option: argparse.Action, rest: deque[str], name: str) -> str:
    """Take the option's value from the arguments after it."""
    optional = option.nargs == "?"
    if rest and (rest[0] in (option.choices or ()) if optional else not rest[0].startswith("-")):
        return rest.popleft()
    if optional:
        return str(option.const)
    raise ConfigError(f"{name}: needs a value. Remedy: {name} {_wanted(option)}")


def _check_choice(option: argparse.Action, name: str, value: str) -> None:
    if option.choices and value not in option.choices:
        raise ConfigError(f"{name} {value}: {alternatives(value, option.choices)}")


def _wanted(option: argparse.Action) -> str:
    return "|".join(option.choices or ()) or option.dest.rpartition("_")[2].upper()
