"""What a record says of a run starts it again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline import described


@pytest.mark.parametrize(
    ("sources", "name", "overrides", "command"),
    [
        ([], "config", [], "python -m pipeline"),
        ([], "config", ["model.args={a: 1}"], "python -m pipeline 'model.args={a: 1}'"),
        (
            [("command-line", "my conf"), ("main", "/conf")],
            "mine",
            ["seed=1"],
            "python -m pipeline --config-dir 'my conf' --config-name mine seed=1",
        ),
        ([("command-line", "/elsewhere")], None, [], "python -m pipeline --config-dir /elsewhere"),
    ],
)
def test_the_command_is_whole(monkeypatch, sources, name, overrides, command):
    hydra = SimpleNamespace(
        runtime=SimpleNamespace(
            config_sources=[
                SimpleNamespace(provider=provider, path=str(Path.cwd() / path)) for provider, path in sources
            ]
        ),
        job=SimpleNamespace(config_name=name),
        overrides=SimpleNamespace(task=overrides),
    )
    monkeypatch.setattr(described, "HydraConfig", SimpleNamespace(get=lambda: hydra))
    assert described.command_again() == command


def test_groups_that_are_left_empty_are_no_choice(monkeypatch):
    choices = {"model": "net", "experiment": None, "hydra/launcher": "basic", "quantizer@second": "affine"}
    hydra = SimpleNamespace(runtime=SimpleNamespace(choices=choices))
    monkeypatch.setattr(described, "HydraConfig", SimpleNamespace(get=lambda: hydra))
    assert described.choices() == {"model": "net", "experiment": "None"}
    assert described.chosen() == {"model": "net"}
