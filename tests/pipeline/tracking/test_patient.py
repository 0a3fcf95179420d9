"""A record that goes away stops no run, gets everything when it is back, and is required at the end alone."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.artifact import ServedModel
from pipeline.errors import PipelineError
from pipeline.tracking import patient
from pipeline.tracking.journal import Journal
from pipeline.tracking.patient import PatientTracker
from tests.pipeline.tracking.test_journal import OPEN


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when somebody sleeps, or a test says so."""

    class Clock:
        now = 0.0
        slept = ()

        def monotonic(self):
            return self.now

        def sleep(self, seconds):
            self.slept += (seconds,)
            self.now += seconds

        def time(self):
            return 1000.0 + self.now

    clock = Clock()
    monkeypatch.setattr(patient, "time", clock)
    return clock


@pytest.fixture
def begin(record, context, clock):
    """Begins a run; returns its tracker, its context, and a list that says when all was delivered."""

    def make(*, connected=True, **settings):
        ctx = context()
        journal = Journal(ctx.run_dir / "tracking.jsonl")
        journal.add("open", **OPEN)
        done = []
        tracker = PatientTracker(
            record.connect,
            journal,
            ctx.run_dir,
            ctx.console,
            where="the record",
            delivered=lambda: done.append(True),
            tracker=record.connect("") if connected else None,
            **settings,
        )
        return tracker, ctx, done

    return make


def told(ctx):
    ctx.console._rich.file.flush()
    return (ctx.run_dir / "terminal.txt").read_text()


def calls(record):
    (run,) = record.runs.values()
    return [call[0] for call in run]


def test_a_record_that_is_there_gets_each_call_at_once_and_no_file_is_left(begin, record):
    tracker, ctx, done = begin()
    tracker.tags({"a": "b"})
    assert calls(record) == ["tags"] and (ctx.run_dir / "tracking.jsonl").exists()
    tracker.metrics({"x": 1}, step=3)
    ((_, values, step, when),) = next(iter(record.runs.values()))[1:]
    assert (values, step) == ({"x": 1.0}, 3) and when > 0
    tracker.finish()
    assert done == [True] and not (ctx.run_dir / "tracking.jsonl").exists()
    assert calls(record) == ["tags", "metrics", "end"]
    assert tracker.where() == f"the record, run {tracker.run_id}"


def test_a_record_that_goes_away_and_comes_back_gets_everything_in_order(begin, record, clock):
    tracker, ctx, done = begin()
    tracker.tags({"n": "0"})
    record.away = True
    for n in range(1, 50):
        tracker.tags({"n": str(n)})
        clock.now += 0.1
    assert record.asked < 15  # the pauses between tries double, and calls in between do not ask
    assert told(ctx).count("the record is away") == 1 and "the run goes on" in told(ctx)
    record.away = False
    clock.now += 60
    tracker.tags({"n": "50"})
    ((*given,),) = record.runs.values()
    assert [values["n"] for _, values in given] == [str(n) for n in range(51)]
    assert "the record is back, and has what was recorded meanwhile" in told(ctx)
    tracker.finish()
    assert done == [True]


def test_one_lost_call_is_repeated_without_a_word(begin, record):
    tracker, ctx, _ = begin()
    refuse, lost = record.refuse, iter([True])

    def once():
        if next(lost, False):
            raise PipelineError("reset by peer")
        refuse()

    record.refuse = once
    tracker.tags({"a": "b"})
    assert calls(record) == ["tags"] and told(ctx) == ""


def test_the_end_waits_with_growing_pauses_for_a_record_that_comes_back(begin, record, clock):
    tracker, ctx, done = begin(patience=60.0)
    record.away = True
    tracker.tags({"a": "b"})

    def sleep(seconds):
        clock.slept += (seconds,)
        clock.now += seconds
        record.away = clock.now < 20

    clock.sleep = sleep
    tracker.finish()
    assert done == [True] and calls(record) == ["tags", "end"]
    assert clock.slept == tuple(sorted(clock.slept)) and sum(clock.slept) < 40
    assert "waiting up to 60 s for the record" in told(ctx)


@pytest.mark.parametrize("required", [True, False])
def test_a_record_that_stays_away_fails_the_run_at_its_end_where_it_is_required(begin, record, required):
    tracker, ctx, done = begin(patience=10.0, required=required)
    record.away = True
    tracker.tags({"a": "b"})  # not here
    if required:
        with pytest.raises(PipelineError) as refusal:
            tracker.finish()
        text = str(refusal.value)
    else:
        tracker.finish()
        text = told(ctx)
    text = " ".join(text.split())
    assert "the record is away" in text and "`python -m pipeline.deliver`" in text
    assert done == [] and (ctx.run_dir / "tracking.jsonl").exists()
    assert tracker.where() == f"{ctx.run_dir / 'tracking.jsonl'}, to be delivered to the record"


def test_a_run_that_the_user_stops_waits_for_nothing(begin, record, clock):
    tracker, _, _ = begin(patience=60.0)
    record.away = True
    with pytest.raises(PipelineError):
        tracker.finish(KeyboardInterrupt())
    assert clock.slept == ()


def test_a_run_that_is_lost_is_recorded_whole_anew(begin, record):
    tracker, ctx, done = begin()
    tracker.tags({"n": "0"})
    first = tracker.run_id
    record.lose()
    tracker.tags({"n": "1"})
    assert tracker.run_id != first and list(record.runs) == [tracker.run_id]
    assert calls(record) == ["tags", "tags"]
    assert f"run {first} is no longer in the record" in " ".join(told(ctx).split())
    tracker.finish()
    assert done == [True] and calls(record) == ["tags", "tags", "end"]


def test_files_and_models_wait_too(begin, record, clock):
    tracker, ctx, _ = begin(connected=False)
    record.away = True
    (ctx.run_dir / "program").mkdir()
    (ctx.run_dir / "report.html").write_text("<p>")
    tracker.artifact(ctx.run_dir / "report.html", "pages")
    tracker.artifact(ctx.run_dir / "removed meanwhile")
    model = ServedModel(
        name="program",
        folder=ctx.run_dir / "program",
        loader_module="m",
        example=np.zeros((1, 2)),
        outputs=(3,),
        params={},
        requirements=(),
    )
    tracker.metrics({"integer/top1": 0.5})
    tracker.metrics({"train/loss": 2.0}, 3)
    tracker.describe("| a |")
    tracker.dataset("digits", "content 1", {"samples": 360.0})
    tracker.model(model)
    record.away = False
    clock.now += 5
    tracker.finish()
    ((file, _, _, described, dataset, logged, _),) = record.runs.values()
    assert file == ("artifact", ctx.run_dir / "report.html", "pages")
    assert described == ("tags", {"mlflow.note.content": "| a |"})
    assert dataset == ("dataset", "digits", "content 1", {"samples": 360.0})
    assert logged[1].folder == model.folder and logged[1].example.shape == (1, 2)
    assert logged[2] == {"integer/top1": 0.5}  # figures of the run, not a step's
