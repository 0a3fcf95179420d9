"""What the runs of a sweep have in common is one artifact: keys tell, without computing anything."""

from __future__ import annotations

import itertools

from hydra import compose, initialize_config_module

from pipeline.configuration.builder import Builder
from pipeline.configuration.schema import RunConfig, register
from pipeline.stage import in_order
from pipeline.store.keys import identity, key_of

AXES = {
    "quantizer": ("affine", "symmetric"),
    "calibration": ("minmax", "mse"),
    "granularity": ("per_tensor", "per_channel"),
    "quantizer.weight.bits": ("8", "4"),
}


def stage_keys(*overrides: str) -> dict[str, str]:
    """By stage, the part of its artifact's key that its configuration and code decide."""
    builder = Builder(compose("config", overrides=[*overrides, "tracking=none"]))
    run = builder.build_as(RunConfig)
    builder.raise_problems()
    return {
        stage.name: key_of(identity(stage, threads=1))
        for stage in in_order(run.stages)
        if stage.produces is not None
    }


def test_a_sweep_trains_once_and_observes_once():
    """Quantizers × calibrations × granularities × bits: one float model, one forward pass."""
    register()
    with initialize_config_module("conf", version_base="1.3"):
        runs = [
            stage_keys(*(f"{key}={value}" for key, value in zip(AXES, values, strict=True)))
            for values in itertools.product(*AXES.values())
        ]
        other = stage_keys("seed=1", "calibration.samples=64")
    count = {name: len({run[name] for run in runs}) for name in runs[0]}
    assert (count["train"], count["observe"]) == (1, 1)
    assert count["calibrate"] == len(runs) == 16
    # from there on inputs tell runs apart: converting and measuring know nothing of the axes
    assert (count["convert"], count["evaluate"]) == (1, 1)
    assert other["train"] == runs[0]["train"] and other["observe"] != runs[0]["observe"]
