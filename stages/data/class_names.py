"""Which folder is which output: the order of classes, given as a list or a file, or by the folders' names."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from stages.data.files import check_readable

log = logging.getLogger(__name__)

MAX_BYTES = 2**24
"""The most bytes that a list of classes has."""


def in_order(folders: Collection[str]) -> tuple[str, ...]:
    """Sort names as text, or where all are whole numbers as these: 2 before 10."""
    if all(name.isdecimal() for name in folders):
        return tuple(sorted(folders, key=lambda name: (int(name), name)))
    return tuple(sorted(folders))


@lru_cache(maxsize=8)
def warn_of_order(classes: tuple[str, ...]) -> None:
    """Say so, once a process, where `in_order` differs from the text's order, which torchvision trains by."""
    if list(classes) != sorted(classes):
        log.warning(
            "the class folders are numbers and count as such: %s. torchvision's ImageFolder sorts them as "
            "text; for a network that it trained: 'data.classes=[%s]'",
            _first(classes),
            ",".join(sorted(classes)) if len(classes) <= 20 else "…",
        )


def read_classes(classes: Path | Sequence[Any]) -> tuple[str, ...]:
    """The names by index.

    Args:
        classes: names, or a file of them: text with one a line; or JSON, a list of names, ``{name: index}``
            (torchvision's class_to_idx), ``{"0": name}``, or ``{"0": [name, …]}``, of which the first counts.

    Raises:
        PipelineError: no such file, another format, gaps, or a name that is there twice.
    """
    names = _read(classes) if isinstance(classes, Path) else [str(name) for name in classes]
    where = f"data.classes={classes}" if isinstance(classes, Path) else "data.classes"
    if not names or "" in names:
        raise PipelineError(
            f"{where}: {'line ' + str(names.index('') + 1) + ' is empty' if names else 'names no class'}.\n"
            "Remedy: give each output's class, in their order."
        )
    if twice := sorted(
        {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
    ):
        raise PipelineError(f"{where}: names '{twice[0]}' twice.\nRemedy: give each output's class once.")
    return tuple(names)


def matched(names: tuple[str, ...], folders: Sequence[str]) -> tuple[str, ...]:
    """The names by index, all `folders` being among them.

    Where no folder bears a whole line, the lines' first words count: ``n01440764 tench, Tinca tinca``.

    Raises:
        PipelineError: a folder that is not in the list.
    """
    words = tuple(name.split()[0] for name in names)
    if not set(folders) & set(names) and set(folders) <= set(words) and len(set(words)) == len(words):
        names = words
    if strangers := [folder for folder in folders if folder not in set(names)]:
        raise PipelineError(
            f"data.classes: names {len(names)} classes, and {_first(strangers)} "
            f"{'is' if len(strangers) == 1 else 'are'} not among them: {_first(names)}.\n"
            "Remedy: write the folders' names in the list, at the index of the output that each belongs to."
        )
    return names


def _read(file: Path) -> list[str]:
    try:
        check_readable(file, MAX_BYTES)
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"data.classes={file}: cannot be read ({error}).\n"
            "Remedy: give a text file with one class a line, a .json, or a list: data.classes=[cat,dog]."
        ) from error
    if file.suffix.lower() != ".json":
        return [line.strip() for line in text.rstrip().splitlines()]
    try:
        return _of_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise PipelineError(
            f"data.classes={file}: is no list of names ({error}).\n"
            'Remedy: [name, …], {"name": index}, {"0": name} or {"0": [name, …]}, indices 0, 1, … in all.'
        ) from error


def _of_json(document: Any) -> list[str]:
    if isinstance(document, dict):
        if all(type(index) is int for index in document.values()):
            by_index = {index: name for name, index in document.items()}
        else:
            by_index = {int(index): name for index, name in document.items()}
        if sorted(by_index) != list(range(len(document))):
            raise ValueError(f"its {len(document)} indices are not 0..{len(document) - 1}")
        document = [by_index[index] for index in range(len(document))]
    if not isinstance(document, list):
        raise ValueError(f"a {type(document).__name__}")
    names = [entry[0] if isinstance(entry, list) and entry else entry for entry in document]
    if other := next((name for name in names if not isinstance(name, str)), None):
        raise ValueError(f"{other!r} is no name")
    return names


def _first(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else "")
