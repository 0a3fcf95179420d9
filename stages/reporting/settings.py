"""What was run, read from the ``.hydra`` folder that Hydra leaves in a run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A run's configuration as a reader wants it; empty where the run was not started through Hydra.

    Args:
        groups: the option chosen in each configuration group, in the order of the defaults list.
        overrides: the command line's.
        document: the composed configuration, as YAML.
    """

    groups: Mapping[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    document: str = ""


def read_settings(run_dir: Path) -> Settings:
    """Read ``config.yaml``, ``overrides.yaml`` and ``hydra.yaml``, as far as they are there."""
    folder = run_dir / ".hydra"
    overrides = folder / "overrides.yaml"
    document = folder / "config.yaml"
    return Settings(
        groups=_groups(folder / "hydra.yaml"),
        overrides=tuple(str(item) for item in OmegaConf.load(overrides)) if overrides.is_file() else (),
        document=document.read_text(encoding="utf-8") if document.is_file() else "",
    )


def _groups(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    choices = OmegaConf.select(OmegaConf.load(path), "hydra.runtime.choices")
    if not isinstance(choices, DictConfig):
        return {}
    return {
        str(group): str(option)
        for group, option in reversed(list(choices.items()))  # Hydra lists the last of the defaults first
        if option is not None and not str(group).startswith("hydra/") and "@" not in str(group)
    }
