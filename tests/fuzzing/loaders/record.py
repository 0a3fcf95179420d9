"""The configuration of a record from elsewhere: its YAML changes, names code, refers to the environment."""

from __future__ import annotations

import os
import random
import sys
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from pipeline.configuration.builder import Builder
from pipeline.configuration.recorded import read_record
from pipeline.configuration.schema import RunConfig, register
from pipeline.errors import PipelineError
from tests.fuzzing.changes import STRANGE, mutate, shaken
from tests.fuzzing.running import said

CASES = 25

SECRET = "only-this-machine-knows"
BAIT = "tests.fuzzing.loaders.bait"
"""A module that is not there to be imported: naming it must not try to."""

HOSTILE = (
    "${oc.env:FUZZ_SECRET}",
    "${oc.env:NONE,${oc.env:FUZZ_SECRET}}",
    "${hydra:runtime.cwd}",
    "${seed}",
    "${nothing.there}",
    {"_target_": f"{BAIT}.run"},
    {"_target_": "os.system", "command": "true"},
    {"_target_": "stages.backends.native_kernels.library._compiled", "compiler": ["true"]},
    {"_target_": "pipeline.session.execute"},
)


def prepare() -> None:
    """Set the secret, and compose the base."""
    os.environ["FUZZ_SECRET"] = SECRET
    base()


@cache
def base() -> str:
    """A run's configuration, as it is recorded."""
    register()
    with initialize_config_module("conf", version_base="1.3"):
        cfg = compose("config", overrides=["tracking=none"])
    plain: Any = OmegaConf.to_container(cfg, resolve=False)
    return yaml.safe_dump(_without_paths(plain), sort_keys=False)


def _without_paths(node: Any) -> Any:
    """Paths as text, and enumerations by name, as whoever writes a record by hand would."""
    if isinstance(node, dict):
        return {key: _without_paths(child) for key, child in node.items()}
    if isinstance(node, list):
        return [_without_paths(child) for child in node]
    return node.name if isinstance(node, Enum) else str(node) if isinstance(node, Path) else node


def case(rng: random.Random, folder: Path) -> str:
    """Make and try one case."""
    path = folder / "config.yaml"
    if rng.random() < 0.7:
        document: Any = yaml.safe_load(base())
        mutate(document, rng, (*STRANGE, *HOSTILE, *HOSTILE))
        path.write_text(yaml.safe_dump(document))
    else:
        path.write_bytes(shaken(base().encode(), rng))
    said_all = ""
    try:
        cfg = read_record(path, "abc")
        said_all = OmegaConf.to_yaml(cfg)
        builder = Builder(cfg, code=())
        run = builder.build_as(RunConfig)
        builder.build()
        builder.raise_problems()
        said_all += repr(run)
    except PipelineError as error:
        said_all += str(error)
        outcome = said(error)
    else:
        outcome = "equal"
    if SECRET in said_all:
        return "the environment was read"
    return f"{BAIT} was imported" if BAIT in sys.modules else outcome
