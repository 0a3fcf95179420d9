"""Where a run writes: a folder of its own, beside what runs share.

Paths in the configuration are relative to the folder that the command starts in, and a run's folder is copied
into the record as a whole. Hydra's own settings can break both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pipeline.errors import ConfigError

_SHARED = ("store.path", "store.cache", "tracking.artifacts", "tracking.uri", "tracking.pending")
_SQLITE = "sqlite:///"


def check_working_folder(chdir: bool | None) -> None:
    """Raise `ConfigError` where runs would leave the folder that the command starts in.

    Args:
        chdir: ``hydra.job.chdir``.
    """
    if chdir:
        raise ConfigError(
            "hydra.job.chdir=true: must be false; relative paths, as store.path, "
            "start from the folder in which the command is given, and a run that changes to a folder of its "
            "own does not find them. Remedy: leave it out; hydra.run.dir says where a run writes"
        )


def check_run_folder(cfg: DictConfig, run_dir: Path, key: str = "hydra.run.dir") -> None:
    """Raise `ConfigError` where a run's folder holds what runs share, and would be copied into itself.

    Args:
        cfg: the configuration, which names the shared folders.
        run_dir: the run's folder; relative to the present one, as all paths.
        key: what names it.
    """
    for what, path in _shared(cfg):
        if path.resolve().is_relative_to(run_dir.resolve()):
            raise ConfigError(
                f"{key}={run_dir}: must be a folder of the run's own, but holds {what}; all of a run's "
                f"folder is copied into the record. Remedy: leave {key} out, or name a new folder, as "
                f"{key}=outputs/{key.split('.')[1]}s/mine"
            )


def _shared(cfg: DictConfig) -> Iterator[tuple[str, Path]]:
    """What is no run's own, with a text that names it."""
    yield "the folder that the command starts in", Path.cwd()
    for key in _SHARED:
        value = OmegaConf.select(cfg, key)
        if isinstance(value, str | Path):
            location = str(value).removeprefix(_SQLITE)
            if "://" not in location:
                yield f"{key}={value}", Path(location)
