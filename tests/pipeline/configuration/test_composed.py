"""Commands beside a run compose what a run would, and bound the user's files as it does."""

from __future__ import annotations

import pytest

from pipeline.configuration import bounds
from pipeline.configuration.composed import composed
from pipeline.errors import ConfigError


def test_the_users_options_are_found(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("_target_: mine.Net\nwidth: 3\n")
    assert composed(["model=mine"], tmp_path).model.width == 3
    assert composed(["seed=7"]).seed == 7


def test_files_that_grow_beyond_bounds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, "MAX_NODES", 50)
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1]", "b: &b [*a, *a, *a, *a, *a]", "c: [*b, *b, *b]"]
    (tmp_path / "many.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"many\.yaml: its aliases \(\*name\) stand for more than 50 nodes"):
        composed([], tmp_path)


def test_an_override_that_cannot_be_read_is_quoted():
    with pytest.raises(ConfigError, match="Remedy: where the value is one text"):
        composed(["model.weights=a=b.pt"])
