"""The command line shows what a sweep shows: the shipped figures, or those of the user's configuration."""

from __future__ import annotations

import pytest

from pipeline.compare.definition import configured
from pipeline.errors import ConfigError

MINE = """
compare:
  _target_: pipeline.compare.callback.CompareSweep
  figures:
    integer/rmse: {label: RMSE, better: lower, role: quality}
"""
EXPERIMENT = """
# @package _global_
hydra:
  callbacks:
    compare:
      figures:
        integer/top1: null
        integer/rmse: {label: RMSE, better: lower, role: quality}
      predictions: null
"""


def test_the_shipped_figures_have_their_roles(contents):
    assert contents.roles == {
        "quality": "integer/top1",
        "size": "model/integer_bytes",
        "speed": "integer/seconds_per_image",
    }
    assert contents.predictions.predicted == "integer"
    assert contents.described("integer/top1") == {
        "key": "integer/top1",
        "label": "integer top-1",
        "better": "higher",
        "factor": 100.0,
        "unit": "%",
        "digits": 2,
        "scale": "linear",
        "role": "quality",
        "parts": ["best", "table", "parallel"],
    }


def test_a_folder_of_the_users_has_figures_of_its_own(tmp_path):
    folder = tmp_path / "my conf"
    (folder / "hydra/callbacks").mkdir(parents=True)
    (folder / "hydra/callbacks/mine.yaml").write_text(MINE)
    contents = configured(["hydra/callbacks=mine"], folder=folder)
    assert list(contents.shown) == ["integer/rmse"] and contents.predictions is None


def test_an_experiment_changes_single_figures(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(EXPERIMENT)
    contents = configured(["experiment=mine"], folder=tmp_path)
    assert contents.roles["quality"] == "integer/rmse" and contents.roles["size"] == "model/integer_bytes"
    assert "integer/top1" not in contents.shown and contents.predictions is None


def test_what_the_command_line_overrides_holds():
    assert (
        configured(["hydra.callbacks.compare.predictions.predicted=float"]).predictions.predicted == "float"
    )
    assert configured(["hydra.callbacks.compare.predictions=null"]).predictions is None


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["hydra/callbacks=mnie"], "mnie"),
        (["hydra/callbacks=null"], "must be a string or a list"),
        (["~hydra/callbacks"], "hydra.callbacks.compare: not set; choose an option of hydra/callbacks"),
        (["hydra.callbacks.compare.predictions.truth=null"], "compare.predictions.truth: expected str"),
        (["hydra.callbacks.compare.figures=null"], "compare.figures: expected a mapping"),
        (["threads"], "threads"),
    ],
)
def test_what_makes_no_comparison_is_refused(overrides, text):
    with pytest.raises(ConfigError, match=text):
        configured(overrides)


def test_a_wrong_figure_is_named_by_its_config_path(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(EXPERIMENT.replace("lower", "up"))
    with pytest.raises(ConfigError, match=r"compare\.figures\.integer/rmse\.better: 'up' is not a choice"):
        configured(["experiment=mine"], folder=tmp_path)


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"--config-dir=.*nowhere: there is no such folder"):
        configured(folder=tmp_path / "nowhere")
