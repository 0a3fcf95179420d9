"""Arguments of the commands beside a run, refused as overrides are: the name, and what there is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import NoReturn

from pipeline.errors import alternatives

_CHOICE = re.compile(r"argument ([^:]+): invalid choice: '?([^']*)'? \(choose from (.*)\)", re.DOTALL)
_VALUE = re.compile(r"argument ([^:]+): invalid (\w+) value: (.*)", re.DOTALL)
_NAME = re.compile(r"[\w-]+")
_KINDS = {"int": "a whole number", "float": "a number"}


class CommandLine(argparse.ArgumentParser):
    """A parser whose refusals are one line with the remedy, without the usage; status 2, as argparse's."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong in our words, and exit."""
        self.exit(2, f"{self._worded(message)}. Remedy: {self.prog} --help says what there is\n")

    def _worded(self, message: str) -> str:
        reason, _, rest = message.partition(": ")
        if reason == "unrecognized arguments":
            first = rest.split()[0].partition("=")[0]
            if not first.startswith("-"):
                return f"{rest}: one argument too many"
            return f"{first}: no such argument; {alternatives(first, set(_options(self)))}"
        if reason == "the following arguments are required":
            return f"{rest}: missing"
        if found := _CHOICE.fullmatch(message):
            return f"{found[1]}={found[2]}: {alternatives(found[2], _NAME.findall(found[3]))}"
        if found := _VALUE.fullmatch(message):
            return f"{found[1]}={found[3]}: must be {_KINDS.get(found[2], found[2])}"
        return message.removeprefix("argument ").replace("expected one argument", "needs a value")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """All that it takes by name, its commands' too."""
    for action in parser._actions:
        yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _options(command)
