"""A run's journal: what is written is read again; time does not go back; what is no journal is refused."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from pipeline.artifact import ServedModel
from pipeline.errors import PipelineError
from pipeline.tracking.journal import Journal, model_fields, model_of, read_journal

OPEN = {"uri": "http://host:1", "experiment": "e", "artifacts": "a", "name": "n", "tags": {}, "time": 7}


def test_what_is_added_is_read_again_but_for_a_line_that_was_cut_off(tmp_path):
    journal = Journal(tmp_path / "tracking.jsonl")
    journal.add("open", **OPEN)
    journal.add("metrics", values={"a": 0.1}, step=None, time=8)
    journal.add("tags", values={"ü": "\n"})
    assert read_journal(journal.file) == journal.entries
    text = journal.file.read_text()
    for end in range(len(text) - 40, len(text)):
        journal.file.write_text(text[:end])
        assert read_journal(journal.file) == journal.entries[:2]
    journal.remove()
    assert not journal.file.exists()


def test_time_goes_on_where_the_clock_goes_back(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "tracking.jsonl", floor=5_000_000)
    clock = iter([5_001.0, 5_002.0, 1_000.0, 1_001.0, 6_000.0])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    assert [journal.now() for _ in range(5)] == [5_001_000, 5_002_000, 5_002_001, 5_002_002, 6_000_000]


def test_a_disk_that_is_full_leaves_the_entries_in_memory(tmp_path):
    journal = Journal(tmp_path / "gone" / "tracking.jsonl")
    journal.add("open", **OPEN)
    assert len(journal.entries) == 1 and not journal.file.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not the record of a run"),
        ("7\n", "line 1 is no call"),
        ('{"call": 7}\n', "line 1 is no call"),
        ("not JSON\n", "not a readable record"),
        ('{"call": "tags", "values": {}}\n', "not the record of a run"),
        (json.dumps({"call": "open", **OPEN, "tags": 7}) + "\n", "not the record of a run"),
        (json.dumps({"call": "open", **OPEN, "uri": None}) + "\n", "not the record of a run"),
        ("[" * 10_000 + "\n", "not a readable record"),
    ],
)
def test_what_is_no_journal_is_refused(tmp_path, text, reason):
    file = tmp_path / "tracking.jsonl"
    file.write_text(text)
    with pytest.raises(PipelineError, match=reason):
        read_journal(file)


def test_a_model_comes_back_with_its_example(tmp_path):
    model = ServedModel(
        name="program",
        folder=tmp_path / "program",
        loader_module="stages.serving",
        example=np.arange(6, dtype=np.float32).reshape(1, 2, 3).transpose(0, 2, 1),
        outputs=(10,),
        params={"backend": "native"},
        requirements=("numpy",),
        config={"max_samples": 7},
    )
    fields = json.loads(json.dumps(model_fields(model, tmp_path)))
    again = model_of(fields, tmp_path, own=False)
    assert again.folder == model.folder and again.example.tolist() == model.example.tolist()
    assert (again.example.dtype, again.outputs, again.params) == (np.float32, (10,), model.params)
    assert again.config == {"max_samples": 7}
    assert (again.name, again.loader_module, again.requirements) == ("program", "stages.serving", ("numpy",))
