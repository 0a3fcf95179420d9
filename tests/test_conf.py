"""Every option of every group composes, and builds. Found by glob: a new YAML is tested by being there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

import conf
from pipeline.configuration.builder import Builder
from pipeline.configuration.schema import RunConfig, register
from pipeline.runner import check_wiring
from pipeline.stage import in_order

CONF = Path(conf.__file__).parent
OPTIONS = sorted(
    path.relative_to(CONF).with_suffix("").as_posix().replace("/", "=", 1)
    for path in CONF.rglob("*.yaml")
    if path.parent != CONF and "hydra" not in path.parts
)

GIVEN = {"target": "torch.nn.Identity"}
"""Mandatory values that are more than text."""

NEEDS = {"export=tensorrt": ["quantizer.activation.signed=true"]}
"""Options that the default of another group does not go with, and what they ask for."""


def unset(values: Any, path: str = "") -> Iterator[str]:
    """The keys that the user has to give, ``program`` or ``benchmark.program``."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from unset(value, f"{path}.{key}".lstrip("."))
    elif values == "???":
        yield path


def built(*overrides: str) -> tuple[Builder, RunConfig]:
    register()
    with initialize_config_module("conf", version_base="1.3"):
        config = compose("config", overrides=list(overrides))
    builder = Builder(config)
    run = builder.build_as(RunConfig)
    builder.build()
    builder.raise_problems()
    return builder, run


def test_there_are_options():
    assert len(OPTIONS) >= 10
    assert "tracking=mlflow" in OPTIONS


def test_the_default_stages_fit_together():
    _, run = built()
    check_wiring(in_order(run.stages))


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_composes_and_builds(option):
    group, name = option.split("=")
    path = CONF / group / f"{name}.yaml"
    values = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    mandatory = list(unset(values))
    package = "" if "@package _global_" in path.read_text(encoding="utf-8") else f"{group}."
    given = [f"{package}{key}={GIVEN.get(key, 'given')}" for key in sorted(mandatory)]
    builder, run = built(option, *given, *NEEDS.get(option, []))
    check_wiring(in_order(run.stages))
    # what is built in lies in the pipeline's own packages; a target is the user's to name
    assert builder.user_code == [f"{group}.target: {GIVEN['target']}" for key in mandatory if key == "target"]
    if "@package _global_" not in path.read_text(encoding="utf-8"):
        assert builder.build(group) is not None


@pytest.mark.parametrize("bits", [2, 3])
def test_presets_of_few_bits_have_all_levels(bits):
    """The symmetric grid has one fewer, which at 2 bits is a quarter of them."""
    builder, _ = built(f"experiment=low_bits/w{bits}a{bits}")
    quantizer = builder.build("quantizer")
    for own in (quantizer.weight, quantizer.activation):
        grid = own.qparams(torch.tensor(0.0), torch.tensor(1.0))
        assert grid.quant_max - grid.quant_min + 1 == 2**bits


def test_columns_of_few_bits_without_labels_are_jobs_of_its_sweep_that_fit():
    preset = yaml.safe_load((CONF / "experiment" / "low_bits" / "without_labels.yaml").read_text("utf-8"))
    swept = preset["hydra"]["sweeper"]["params"]["correction"]
    columns = preset["hydra"]["callbacks"]["table"]["columns"].values()
    corrections = [column["correction"] for column in columns if "correction" in column]
    assert swept == ",".join(corrections)
    for own in corrections:
        _, run = built("experiment=low_bits/without_labels", f"correction={own}")
        check_wiring(in_order(run.stages))


@pytest.mark.parametrize("path", sorted(CONF.rglob("*.yaml")), ids=lambda p: p.relative_to(CONF).as_posix())
def test_a_file_says_what_it_is_for(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("#"), f"{path.name} should begin with a comment"


def test_parameters_flatten_without_repeating_what_is_referred_to():
    from pipeline.described import flatten

    config = OmegaConf.create({"a": {"b": 1, "c": [1, 2], "d": {}}, "e": "${a}", "f": {"g": "x-${a.b}"}})
    assert dict(flatten(config)) == {"a.b": 1, "a.c": [1, 2], "a.d": {}, "f.g": "x-1"}
