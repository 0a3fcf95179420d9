"""What is compared and shown, built and checked from the configuration that Hydra composed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipeline.compare.figures import Contents
from pipeline.configuration.builder import Builder
from pipeline.configuration.refusals import explained
from pipeline.configuration.schema import register
from pipeline.errors import ConfigError, PipelineError
from pipeline.place import CONF

CONTENTS = "hydra.callbacks.compare"
"""The config path of what a comparison consists of, of a sweep's page and of the command line alike."""


def build(target: str, path: str, definition: Mapping[str, Any]) -> Any:
    """Build the component `target` of a callback's arguments.

    Args:
        target: dotted name of the class.
        path: config path of the callback, which messages name.
        definition: the arguments.

    Raises:
        ConfigError: with every mistake, by config path.
    """
    root: DictConfig = OmegaConf.create()
    OmegaConf.update(root, path, {**definition, "_target_": target})
    builder = Builder(root)
    built = builder.build(path)
    builder.raise_problems()
    return built


def build_contents(definition: Mapping[str, Any]) -> Contents:
    """Build what a comparison consists of. Raises `ConfigError` with every mistake."""
    contents: Contents = build("pipeline.compare.figures.Contents", CONTENTS, definition)
    return contents


def configured(overrides: Sequence[str] = (), *, folder: Path | None = None) -> Contents:
    """Read what a comparison consists of, as a sweep of these overrides would.

    Args:
        overrides: Hydra's, as ``experiment=mine`` or ``hydra/callbacks=mine``.
        folder: more options of the groups, as of ``python -m pipeline --config-dir``.

    Raises:
        ConfigError: the overrides do not compose, or make no comparison.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError(f"--config-dir={folder}: there is no such folder")
    register()
    place = [] if folder is None else [f"hydra.searchpath=['file://{folder.resolve()}']"]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("config", overrides=[*place, *overrides], return_hydra_config=True)
        node = OmegaConf.select(config, CONTENTS)
        definition = OmegaConf.to_container(node) if isinstance(node, DictConfig) else None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explained(error, [*place, *overrides])) from error
    except ValueError as error:  # Hydra raises it as well
        raise ConfigError(str(error)) from error
    if not isinstance(definition, dict):
        raise ConfigError(f"{CONTENTS}: not set; choose an option of hydra/callbacks that sets it")
    return build_contents({str(key): value for key, value in definition.items()})


def or_exit(check: Any) -> None:
    """Call `check`; where the configuration is wrong, say so and exit.

    Hydra turns an exception of a callback into a warning; what has to stop a sweep exits instead.
    """
    try:
        check()
    except PipelineError as refusal:
        print(refusal, file=sys.stderr)
        sys.exit(1)
