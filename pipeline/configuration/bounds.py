"""YAML from elsewhere, bounded before it becomes a configuration.

An alias is a few letters, and stands for all that its anchor holds: nine lines of nine aliases to the line
before are a billion nodes, which OmegaConf copies one by one. So nodes are counted as they would be, each
alias as all of its anchor, in time that the text is proportional to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError

MAX_NODES = 100_000
"""The most nodes, aliases expanded; the whole of this project's ``conf/`` has some thousands."""

MAX_BYTES = 2**22

_FOLDER_OPTIONS = ("--config-dir", "-cd", "--config-path", "-cp")
_SEARCH_PATH = "hydra.searchpath="


def read_yaml(file: Path) -> str:
    """The text of a file of YAML that is not too large, its aliases expanded.

    Raises:
        ConfigError: no regular file, not readable as YAML, more than `MAX_BYTES` or `MAX_NODES`.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: is no regular file. Remedy: give a file of YAML")
    if file.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{file}: has {file.stat().st_size} bytes: a configuration has at most {MAX_BYTES}")
    yaml: Any = import_module("yaml")
    try:
        text = file.read_text(encoding="utf-8")
        nodes = _count(yaml.compose(text, Loader=yaml.SafeLoader))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{file}: cannot be read as YAML ({reason or type(error).__name__})") from error
    if nodes > MAX_NODES:
        raise ConfigError(
            f"{file}: its aliases (*name) stand for more than {MAX_NODES} nodes. "
            "Remedy: write what they stand for, or refer to it: ${path.of.key}"
        )
    return text


def check_folders(arguments: Sequence[str]) -> None:
    """Check every file of YAML in the folders that a command line gives to Hydra.

    Raises:
        ConfigError: a folder of one's own options that is not there, which Hydra may pass over; and as
            `read_yaml`.
    """
    for folder in named_folders(arguments):
        if not folder.is_dir() and not {"--config-path", "-cp"} & {a.partition("=")[0] for a in arguments}:
            raise ConfigError(
                f"--config-dir {folder}: no such folder (looked in {Path.cwd()}). Remedy: the folder in "
                "which <group>/<option>.yaml lie"
            )
        for file in sorted(folder.rglob("*.yaml")):
            read_yaml(file)


def named_folders(arguments: Sequence[str]) -> Iterator[Path]:
    """The folders of options that a command line names."""
    for place, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option in _FOLDER_OPTIONS:
            yield Path(value if equals else "".join(arguments[place + 1 : place + 2]))
        elif argument.lstrip("+").startswith(_SEARCH_PATH):
            for part in value.strip("[]'\" ").split(","):
                name = part.strip("'\" ")
                if not name.startswith("pkg://"):
                    yield Path(name.removeprefix("file://"))


def _count(root: Any) -> int:
    """Nodes below and with `root`, an alias as all of its anchor; more than `MAX_NODES` for a circle."""
    counts: dict[int, int] = {}
    waiting = [(root, False)]
    while waiting:
        node, visited = waiting.pop()
        children = _children(node)
        if visited:
            counts[id(node)] = 1 + sum(counts[id(child)] for child in children)
        elif id(node) not in counts:
            counts[id(node)] = MAX_NODES + 1  # what an alias within it finds, which would be a circle
            waiting.append((node, True))
            waiting += [(child, False) for child in children]
    return counts[id(root)]


def _children(node: Any) -> list[Any]:
    if node is None or isinstance(node.value, str):
        return []
    return [child for item in node.value for child in (item if isinstance(item, tuple) else (item,))]
