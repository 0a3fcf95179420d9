"""The configuration that a command line composes, built and checked as a run would."""

from __future__ import annotations

from hydra import compose, initialize_config_module

from pipeline.configuration.builder import Builder
from pipeline.configuration.schema import RunConfig, register


def built(*overrides: str) -> RunConfig:
    """The run that ``python -m pipeline`` with these overrides starts. Raises `ConfigError`."""
    register()
    with initialize_config_module("conf", version_base="1.3"):
        builder = Builder(compose("config", overrides=list(overrides)))
    run = builder.build_as(RunConfig)
    builder.raise_problems()
    return run
