"""Artifacts in use: what happens to an entry between its discovery and its loading, and its figures."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.runner import run_stages
from pipeline.tracking.null import Null


@dataclass(frozen=True)
class Noted(Null):
    """A tracker that keeps every figure with its step."""

    given: list = field(default_factory=list)

    def metrics(self, values, step=None):
        self.given.extend((name, value, step) for name, value in values.items())


def figures(tracker):
    return [noted for noted in tracker.given if not noted[0].startswith("stage/")]


def test_a_cached_stage_gives_the_figures_and_curves_of_the_run_that_computed_it(fakes, context):
    runs = []
    for _ in range(2):
        ctx = context(tracker=Noted())
        runs.append((run_stages([fakes.Make(), fakes.DoSquare()], ctx), figures(ctx.tracker)))
    (first, noted), (second, again) = runs
    assert second["stage/make/cached"] == 1.0
    assert noted == again == [("make/loss", 0.5, 0), ("make/loss", 0.25, 1), ("square/value", 9.0, None)]
    assert second["make/loss"] == first["make/loss"] == 0.25


def test_an_entry_without_figures_as_earlier_versions_wrote_is_used(fakes, context, tmp_path, warnings):
    stages = [fakes.Make(), fakes.DoSquare()]
    run_stages(stages, context())
    for file in (tmp_path / "store").glob("*/*/manifest.json"):
        manifest = json.loads(file.read_text())
        del manifest["figures"]
        file.write_text(json.dumps(manifest))
    metrics = run_stages(stages, context())
    assert metrics["stage/make/cached"] == metrics["stage/square/cached"] == 1.0
    assert "make/loss" not in metrics and warnings == []


@pytest.mark.parametrize(
    "change",
    [
        lambda noted: noted["values"][0][1].update({"make/loss": 0.125}),
        lambda noted: noted["values"][0][1].update({"make/loss": "low"}),
        lambda noted: noted.update(values=7),
        lambda noted: noted.pop("sha256"),
    ],
)
def test_changed_figures_are_damage(fakes, context, tmp_path, warnings, change):
    run_stages([fakes.Make()], context())
    (file,) = (tmp_path / "store").glob("number/*/manifest.json")
    manifest = json.loads(file.read_text())
    change(manifest["figures"])
    file.write_text(json.dumps(manifest))
    metrics = run_stages([fakes.Make()], context())
    assert metrics["stage/make/cached"] == 0.0 and metrics["make/loss"] == 0.25
    assert "its figures are not those that were recorded" in warnings[0]


def delete(entry):
    shutil.rmtree(entry)


def truncate(entry):
    (entry / "value.txt").write_text("3")


def change_a_byte(entry):
    (entry / "value.txt").write_text("3.1")


def replace_by_another(entry):
    (other,) = (one for one in entry.parent.iterdir() if one != entry)
    shutil.rmtree(entry)
    shutil.copytree(other, entry)


@pytest.mark.parametrize("damage", [delete, truncate, change_a_byte, replace_by_another])
def test_an_entry_damaged_between_its_discovery_and_its_use_is_made_again(fakes, context, tmp_path, damage):
    """*make* is found whole, then damaged by a stage that runs before its number is loaded."""
    run_stages([fakes.Make(value=5.0)], context())
    expected = run_stages([fakes.Make(), fakes.DoSquare(noise=True)], context(reuse=False))
    number = tmp_path / "store" / "number"
    (entry,) = (one for one in number.iterdir() if (one / "value.txt").read_text() == "3.0")

    class Damage(fakes.Show):
        name = "damage"
        consumes = ()

        def run(self, ctx, inputs):
            np.random.rand()  # noqa: NPY002  the global generator is the point
            damage(entry)

    ctx = context()
    stages = [fakes.Make(), Damage(), fakes.DoSquare(noise=True, wait=0.01)]
    metrics = run_stages(stages, ctx)
    assert metrics["stage/make/cached"] == 1.0
    assert metrics["square/value"] == expected["square/value"]  # the same random numbers too
    ctx.console._rich.file.flush()
    told = (ctx.run_dir / "terminal.txt").read_text()
    assert told.count("stored number was damaged while in use and is computed again: ") == 1
    assert (entry / "value.txt").read_text() == "3.0"
    metrics = run_stages(stages[:1], context())
    assert metrics["stage/make/cached"] == 1.0


def test_a_chain_of_damaged_entries_is_made_again_on_the_inputs_it_had(fakes, context, tmp_path):
    """A later stage makes the same type anew: its number must not become its own input."""

    class Double(fakes.Make):
        name = "double"
        consumes = (fakes.Number,)

        def run(self, ctx, inputs):
            return fakes.Number(2 * inputs[fakes.Number].value)

    class Damage(fakes.Show):
        name = "damage"
        consumes = ()

        def run(self, ctx, inputs):
            shutil.rmtree(tmp_path / "store" / "number")

    run_stages([fakes.Make(), Double()], context())
    metrics = run_stages([fakes.Make(), Double(), Damage(), fakes.DoSquare()], context())
    assert metrics["square/value"] == 36.0
    assert len(list((tmp_path / "store" / "number").iterdir())) == 2


def test_an_entry_that_cannot_be_made_again_the_same_ends_the_run(fakes, context, tmp_path):
    values = iter([3.0, 4.0])

    class Fickle(fakes.Make):
        def run(self, ctx, inputs):
            return fakes.Number(next(values))

    class Damage(fakes.Show):
        name = "damage"
        consumes = ()

        def run(self, ctx, inputs):
            shutil.rmtree(tmp_path / "store" / "number")

    run_stages([Fickle()], context())
    with pytest.raises(
        PipelineError, match=r"stage 'make' now gives another: .*Remedy: the same command again"
    ):
        run_stages([Fickle(), Damage(), fakes.DoSquare()], context())
    metrics = run_stages([Fickle(), fakes.DoSquare()], context())
    assert metrics["square/value"] == 16.0


def test_an_artifact_that_does_not_load_says_why(fakes, context, monkeypatch):
    """Verified, so its own error is not taken for damage."""
    run_stages([fakes.Make()], context())

    def load(cls, directory):
        raise ValueError("of another kind")

    monkeypatch.setattr(fakes.Number, "load", classmethod(load))
    with pytest.raises(ValueError, match="of another kind"):
        run_stages([fakes.Make(), fakes.DoSquare()], context())
