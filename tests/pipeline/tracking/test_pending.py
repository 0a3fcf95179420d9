"""Runs that were killed, or whose record was away: who is alive is left alone, all others are completed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipeline.errors import PipelineError
from pipeline.run_folder import OccupiedError, occupied
from pipeline.tracking import pending
from pipeline.tracking.journal import Journal
from tests.pipeline.tracking.test_journal import OPEN

URI = OPEN["uri"]


@pytest.fixture
def leave(tmp_path):
    """Leaves a run's folder with its journal, named in ``pending``."""

    def make(name, *, finished, run_id="", uri=URI):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        journal = Journal(folder / "tracking.jsonl")
        journal.add("open", **{**OPEN, "uri": uri})
        if run_id:
            journal.add("run", run_id=run_id)
        journal.add("tags", values={"fingerprint": name})
        journal.add("metrics", values={"x": 1.0}, step=None, time=12)
        if finished:
            journal.add("finish", status="FINISHED", error="", time=13)
        pending.note(tmp_path / "pending", journal.file)
        return journal.file

    return make


@pytest.fixture
def settle(tmp_path, record, warnings):
    def make(**settings):
        attach = lambda opening, run_id: record.connect(run_id)  # noqa: E731
        return pending.settle(tmp_path / "pending", attach, URI, warn=warnings.append, **settings)

    return make


def test_a_killed_run_is_recorded_so_as_of_its_last_call_and_told_with_its_tags(leave, settle, record):
    record.runs["7"] = []
    journal = leave("killed", finished=False, run_id="7")
    ((killed),) = settle()
    assert (killed.run_id, killed.finished, killed.tags) == ("7", False, {"fingerprint": "killed"})
    assert record.runs["7"][-1] == ("end", "KILLED", pending.KILLED, 12)
    assert [call[0] for call in record.runs["7"]] == ["tags", "metrics", "end"]
    assert not journal.exists() and settle() == []


def test_a_run_that_was_done_is_delivered_and_is_not_called_killed(leave, settle, record):
    leave("done", finished=True)
    assert settle() == []
    ((*calls,),) = record.runs.values()
    assert calls[-1] == ("end", "FINISHED", "", 13)


def test_a_run_that_is_alive_is_left_alone_whoever_asks(leave, settle, record, tmp_path):
    journal = leave("alive", finished=False)
    code = (
        "import sys, pathlib; from pipeline.run_folder import occupy\n"
        f"occupy(pathlib.Path({str(journal.parent)!r})); print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    assert settle() == [] and record.runs == {} and journal.exists()
    process.kill()
    process.communicate()
    assert [killed.tags["fingerprint"] for killed in settle()] == ["alive"]


def test_the_run_that_settles_takes_what_lies_in_its_own_folder(leave, settle, record):
    journal = leave("again", finished=False)
    with occupied(journal.parent):
        assert settle() == []
        assert len(settle(own=journal.parent)) == 1


def test_what_belongs_to_another_record_waits_for_it(leave, settle, record):
    journal = leave("elsewhere", finished=True, uri="http://other:1")
    assert settle() == [] and journal.exists() and record.runs == {}


def test_a_record_that_is_away_is_a_warning_and_everything_waits(leave, settle, record, warnings, tmp_path):
    journal = leave("done", finished=True)
    record.away = True
    assert settle() == [] and journal.exists()
    assert warnings == ["an earlier run is not recorded yet: the record is away"]
    record.away = False
    settle()
    assert not journal.exists() and list((tmp_path / "pending").iterdir()) == []


def test_one_that_is_refused_does_not_stop_the_others(leave, settle, record, warnings):
    bad = leave("bad", finished=True)
    bad.write_text(bad.read_text() + '{"call": "metrics", "values": 7}\n')
    leave("good", finished=True)
    settle()
    assert len(warnings) == 1 and "call 'metrics' of its record cannot be delivered" in warnings[0]
    assert [calls[-1][0] for calls in record.runs.values() if calls] == ["end", "end"]


def test_a_journal_takes_no_file_from_outside_its_folder(leave, settle, record, warnings, tmp_path):
    """A run's folder may come from elsewhere."""
    secret = tmp_path / "secret"
    secret.write_text("?")
    for name, path in (("absolute", str(secret)), ("above", "../../secret"), ("link", "link")):
        journal = leave(name, finished=False)
        (journal.parent / "link").symlink_to(secret)
        line = {"call": "artifact", "path": path, "folder": ""}
        journal.write_text(journal.read_text() + json.dumps(line) + "\n")
    settle()
    assert len(warnings) == 3 and all("lies outside the run's folder" in text for text in warnings)
    assert "artifact" not in {call[0] for calls in record.runs.values() for call in calls}


def test_a_folder_that_was_removed_is_forgotten(leave, settle, tmp_path):
    leave("gone", finished=False).unlink()
    assert settle() == [] and list((tmp_path / "pending").iterdir()) == []


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    taken = pytest.raises(OccupiedError, match="another run is writing there")
    with occupied(tmp_path / "run"), taken, occupied(tmp_path / "run"):
        raise AssertionError("held by two")
    with occupied(tmp_path / "run"):
        assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_a_file_that_is_no_journal_is_told(tmp_path):
    (tmp_path / "tracking.jsonl").write_text("{}\n")
    with pytest.raises(PipelineError, match="line 1 is no call"):
        pending.deliver(tmp_path / "tracking.jsonl", lambda opening, run_id: None)
