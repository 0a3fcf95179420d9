"""The configuration of a command beside ``python -m pipeline``, which builds a part of it alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pipeline.configuration.bounds import check_folders
from pipeline.configuration.overrides import check_overrides
from pipeline.configuration.refusals import explained
from pipeline.configuration.schema import register
from pipeline.errors import ConfigError
from pipeline.place import CONF, check_place


def composed(overrides: Sequence[str], folder: Path | None = None) -> DictConfig:
    """Compose ``conf/`` with overrides as a run takes them, and the user's own options.

    Args:
        overrides: of the command line.
        folder: what ``--config-dir`` names; None for none.

    Raises:
        ConfigError: an override that cannot be read or names what there is not, or a file of YAML beyond
            what one may have.
    """
    own = [] if folder is None else [f"hydra.searchpath=[file://{folder.resolve()}]"]
    check_place()
    check_overrides(overrides)
    check_folders([*overrides, *own])
    register()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", overrides=[*overrides, *own])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explained(error, [*overrides, *own])) from error
