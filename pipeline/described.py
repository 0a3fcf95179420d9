"""What Hydra knows of the present run, as text for its record: choices, settings, the command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pipeline.environment import environment

_REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")


def flatten(cfg: DictConfig) -> Iterator[tuple[str, object]]:
    """Every setting once, by config path. A reference to another key is that key's to report."""

    def walk(node: Any, path: str) -> Iterator[tuple[str, object]]:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                yield from walk(value, f"{path}.{key}" if path else str(key))
        elif not isinstance(node, str) or "${" not in node:
            yield path, node
        elif not _REFERENCE.fullmatch(node):
            yield path, OmegaConf.select(cfg, path)

    return walk(OmegaConf.to_container(cfg, resolve=False), "")


def choices() -> dict[str, str]:
    """The option of each configuration group; of a list, as ``runtimes=[…]``, Hydra tells none."""
    made = HydraConfig.get().runtime.choices
    return {str(k): str(v) for k, v in made.items() if not str(k).startswith("hydra/") and "@" not in str(k)}


def added_keys() -> set[str]:
    """The keys at the root that the command line adds: ``foo`` of ``+foo.bar=1``."""
    lines = HydraConfig.get().overrides.task
    return {re.split(r"[.=@]", line.lstrip("+"), maxsplit=1)[0] for line in lines if line.startswith("+")}


def command_again() -> str:
    """What starts this run again, alone: the user's own folder and configuration, and all overrides."""
    hydra = HydraConfig.get()
    own = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    folder = [word for path in own for word in ("--config-dir", str(relative(Path(path))))]
    name = hydra.job.config_name
    named = [] if name in (None, "config") else ["--config-name", str(name)]
    return shlex.join(["python", "-m", "pipeline", *folder, *named, *hydra.overrides.task])


def chosen() -> dict[str, str]:
    """The choices that are made, without groups that are left empty."""
    return {group: option for group, option in choices().items() if option != "None"}


def tags_of(cfg: DictConfig) -> dict[str, str]:
    """What describes the run, where it ran, and how it is started again."""
    hydra = HydraConfig.get()
    tags = choices()
    tags |= environment() | {"seed": str(cfg.seed)}
    tags |= {"overrides": shlex.join(hydra.overrides.task), "command": command_again()}
    if hydra.mode is RunMode.MULTIRUN:
        tags["sweep"] = str(hydra.sweep.dir)  # common to all runs of the sweep
    return tags


def relative(path: Path) -> Path:
    """A path below the folder that the command starts in, from there; another as it is."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
