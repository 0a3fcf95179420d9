"""What a program's input means survives on disk, and a broken file is refused."""

from __future__ import annotations

import pytest

from pipeline.errors import PipelineError
from stages.data.description import Description
from stages.data.digits import Digits


def test_a_data_set_says_what_its_program_takes(tmp_path):
    described = Description.of(Digits())
    assert described == Description(shape=(1, 8, 8), mean=(0.3053,), std=(0.3760,))
    described.save(tmp_path)
    assert Description.load(tmp_path) == described


def test_names_and_preprocessing_survive(tmp_path):
    described = Description(shape=(3, 8, 8), classes=("Kälte", "b"), image={"size": 8, "channels": 3})
    described.save(tmp_path)
    assert Description.load(tmp_path) == described
    assert described.metadata()["classes"] == '["Kälte", "b"]'


def test_a_missing_file_is_none_and_a_broken_one_is_refused(tmp_path):
    assert Description.load(tmp_path) is None
    (tmp_path / "preprocessing.json").write_text('{"shape": [1]}')
    with pytest.raises(PipelineError, match=r"preprocessing\.json: not a readable description .*Remedy"):
        Description.load(tmp_path)
