"""MLflow gets what metrics.json holds; trackers fail clearly, or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runner import run_stages
from pipeline.tracking import pending
from pipeline.tracking.base import Job, SettlesRuns, SweepTracking, Tracking
from pipeline.tracking.mlflow import MLflow
from pipeline.tracking.mlflow_run import guarded
from pipeline.tracking.null import Null


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """One database for the module: creating its tables takes a second or two."""
    folder = tmp_path_factory.mktemp("mlflow")
    return MLflow(uri=f"sqlite:///{folder / 'deep' / 'mlflow.db'}", artifacts=folder / "files")


@pytest.fixture
def client(tracking):
    from mlflow.tracking import MlflowClient

    return lambda: MlflowClient(tracking_uri=tracking.uri)


@pytest.fixture
def opened(tracking, context):
    ctx = context()
    return tracking.open(ctx.run_dir, ctx.console, {})


def test_mlflow_gets_what_metrics_json_holds(fakes, context, tracking, client):
    ctx = context()
    tracker = tracking.open(ctx.run_dir, ctx.console, {})
    stages = [fakes.Make(), fakes.DoSquare(), fakes.Add(), fakes.Show()]
    run_stages(stages, context(run_dir=ctx.run_dir, tracker=tracker))
    tracker.finish()
    run = client().get_run(tracker.run_id)
    assert run.data.metrics == json.loads((ctx.run_dir / "metrics.json").read_text())
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "/".join(ctx.run_dir.parts[-2:])
    assert run.data.tags["mlflow.source.name"] == "python -m pipeline" and run.data.tags["mlflow.user"]
    assert [m.value for m in client().get_metric_history(tracker.run_id, "make/loss")] == [0.5, 0.25]


def test_what_is_not_finite_is_not_recorded(fakes, context, tracking, client, monkeypatch):
    """MLflow would store infinity as 1.8e308."""
    values = {"square/sqnr_db": float("inf"), "square/share": float("nan"), "square/known": 1e308}
    monkeypatch.setattr(fakes.Square, "metrics", lambda self: values)
    ctx = context()
    tracker = tracking.open(ctx.run_dir, ctx.console, {})
    run_stages([fakes.Make(), fakes.DoSquare()], context(run_dir=ctx.run_dir, tracker=tracker))
    tracker.finish()
    data = client().get_run(tracker.run_id).data
    assert {k: v for k, v in data.metrics.items() if k.startswith("square/")} == {"square/known": 1e308}
    assert data.metrics == json.loads((ctx.run_dir / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (PipelineError("out of luck"), "FAILED", "PipelineError: out of luck"),
        (KeyboardInterrupt(), "KILLED", "KeyboardInterrupt: "),
    ],
)
def test_a_run_that_ends_badly_is_recorded_so(opened, client, error, status, text):
    opened.finish(error)
    run = client().get_run(opened.run_id)
    assert (run.info.status, run.data.tags["error"]) == (status, text)


def test_many_long_and_oddly_named_values_are_accepted(opened, client):
    opened.params({f"group.key_{n}": n for n in range(250)} | {"long": "x" * 7000, "odd=name[0]": None})
    opened.tags({"overrides": "y" * 9000})
    opened.metrics({f"m/{n}": n for n in range(1200)})
    data = client().get_run(opened.run_id).data
    assert len(data.params) == 252 and data.params["group.key_249"] == "249"
    assert data.params["long"] == "x" * 5999 + "…" and data.params["odd_name_0_"] == "None"
    assert data.tags["overrides"].startswith("yyy") and len(data.metrics) == 1200


def test_files_and_folders_are_copied(opened, client, tmp_path):
    folder = tmp_path / "program"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "weights.bin").write_bytes(b"1")
    (tmp_path / "report.html").write_text("<p>")
    opened.artifact(folder)
    opened.artifact(tmp_path / "report.html", "reports")
    found = {
        file.path
        for path in ("program/deep", "reports")
        for file in client().list_artifacts(opened.run_id, path)
    }
    assert found == {"program/deep/weights.bin", "reports/report.html"}
    assert opened.run_id in opened.where() and "mlflow ui --backend-store-uri sqlite:///" in opened.where()


def test_a_deleted_experiment_says_how_to_get_it_back(tracking, context, client):
    lost = MLflow(uri=tracking.uri, experiment="lost", artifacts=tracking.artifacts)
    ctx = context()
    lost.open(ctx.run_dir, ctx.console, {}).finish()
    client().delete_experiment(client().get_experiment_by_name("lost").experiment_id)
    with pytest.raises(
        PipelineError, match=r"tracking\.experiment='lost' is deleted in .*experiments restore"
    ):
        lost.open(ctx.run_dir, ctx.console, {})


@pytest.fixture
def nobody():
    """The address of a port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_an_unreachable_server_is_a_clear_error_at_once(nobody, context):
    ctx = context()
    start = time.monotonic()
    with pytest.raises(PipelineError) as error:
        MLflow(uri=nobody).open(ctx.run_dir, ctx.console, {})
    assert time.monotonic() - start < 5
    assert f"tracking.uri={nobody}: MLflow failed: [Errno 111] Connection refused" in str(error.value)
    assert "correct tracking.uri" in str(error.value) and "tracking.required=false" in str(error.value)


def test_a_server_that_is_no_mlflow_is_a_clear_error(context):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def refuse() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                connection.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")
                connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        ctx = context()
        with pytest.raises(PipelineError, match="MLflow failed: "):
            MLflow(uri=f"http://127.0.0.1:{server.getsockname()[1]}").open(ctx.run_dir, ctx.console, {})
        server.shutdown(socket.SHUT_RDWR)


def test_an_unreachable_server_that_is_not_required_leaves_a_local_copy(nobody, context, fakes, tmp_path):
    ctx = context()
    tracking = MLflow(uri=nobody, required=False, patience=0, pending=tmp_path / "pending")
    tracker = tracking.open(ctx.run_dir, ctx.console, {})
    metrics = run_stages([fakes.Make(), fakes.DoSquare()], context(run_dir=ctx.run_dir, tracker=tracker))
    tracker.finish(PipelineError("late"))
    ctx.console._rich.file.flush()
    told = (ctx.run_dir / "terminal.txt").read_text()
    assert told.count("warning: tracking.uri=") == 2 and "`python -m pipeline.deliver`" in told
    calls = [json.loads(line) for line in (ctx.run_dir / "tracking.jsonl").read_text().splitlines()]
    kept = {name: v for call in calls if call["call"] == "metrics" for name, v in call["values"].items()}
    assert kept == metrics
    assert (calls[-1]["call"], calls[-1]["status"]) == ("finish", "FAILED")
    assert calls[-1]["error"] == "PipelineError: late"
    assert tracker.where() == f"{ctx.run_dir / 'tracking.jsonl'}, to be delivered to {nobody}"
    assert list(pending.journals(tmp_path / "pending")) == [ctx.run_dir / "tracking.jsonl"]


def test_a_locked_database_is_waited_for():
    answers = iter([RuntimeError("(sqlite3) database is locked"), RuntimeError("database is locked"), 7])

    def call():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert guarded("sqlite:///x", call) == 7
    with pytest.raises(PipelineError, match=r"tracking\.uri=sqlite:///x: MLflow failed: no such table"):
        guarded("sqlite:///x", lambda: (_ for _ in ()).throw(RuntimeError("no such table\nat line 3")))


def test_a_record_with_infinities_comes_back_without_them(tracking, context, client):
    """As earlier versions recorded them; MLflow's database holds the largest double in their place."""
    ctx = context()
    job = Job(sweep="s", fingerprint="infinite", name="n")
    tracker = tracking.open_job(ctx.run_dir, ctx.console, job, None)
    values = {"sqnr": math.inf, "worst": -math.inf, "loss": math.nan, "large": 1e300, "top1": 0.5}
    for name, value in values.items():
        client().log_metric(tracker.run_id, name, value)
    tracker.finish()
    assert tracking.recorded(job).metrics == {"large": 1e300, "top1": 0.5}


def create(tracking, run_dir, console, barrier, results):
    barrier.wait()
    tracker = tracking.open(run_dir, console, {})
    tracker.metrics({"x": 1.0})
    tracker.finish()
    results.put(tracker.run_id)


def test_two_processes_that_create_the_database_at_once_both_succeed(tmp_path):
    from pipeline.console import Console

    processes = multiprocessing.get_context("fork")
    barrier, results = processes.Barrier(2), processes.Queue()
    tracking = MLflow(uri=f"sqlite:///{tmp_path / 'new.db'}", artifacts=tmp_path / "files")
    arguments = (tracking, tmp_path, Console(quiet=True), barrier, results)
    workers = [processes.Process(target=create, args=arguments) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert results.get(timeout=5) != results.get(timeout=5)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"uri": "outputs/mlflow.db"}, r"uri='outputs/mlflow\.db': must be sqlite:///path or http"),
        ({"experiment": ""}, r"experiment='': must not be empty"),
        ({"patience": -1.0}, r"patience=-1\.0: must be seconds, 0 or more"),
    ],
)
def test_wrong_settings_are_refused(values, text):
    with pytest.raises(ValueError, match=text):
        MLflow(**values)


def test_all_are_what_the_group_promises(tmp_path):
    assert isinstance(MLflow(), Tracking) and isinstance(Null(), Tracking)
    assert isinstance(MLflow(), SweepTracking) and isinstance(MLflow(), SettlesRuns)
    null = Null().open(tmp_path, None, {})
    null.metrics({"a": 1.0})
    null.artifact(tmp_path)
    null.finish()
    assert null.where() == "not tracked (tracking=none)" and list(tmp_path.iterdir()) == []


STOPPED = """
import os, pathlib, sqlite3, sys
from pipeline.console import Console
from pipeline.tracking.mlflow import MLflow

how = sys.argv[1]
if how == "before the rename":
    pathlib.Path.replace = lambda self, target: os._exit(9)
if how == "among the tables":
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    made = []

    @event.listens_for(Engine, "before_cursor_execute")
    def stop(connection, cursor, statement, *rest):
        made.append(1)
        if len(made) == 40:
            os._exit(9)

tracking = MLflow(uri="sqlite:///m.db", artifacts=pathlib.Path("a"))
tracking.open(pathlib.Path("runs/x/y"), Console(), {}).finish()
"""


@pytest.mark.parametrize("moment", ["among the tables", "before the rename"])
def test_a_process_stopped_while_it_creates_the_database_leaves_no_broken_one(tmp_path, moment):
    def run(how):
        command = [sys.executable, "-c", STOPPED, how]
        root = str(Path(__file__).parents[3])
        environment = os.environ | {"PYTHONPATH": root}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert run(moment).returncode == 9
    assert not (tmp_path / "m.db").exists()
    again = run("not at all")
    assert again.returncode == 0, again.stderr
    assert sorted(path.name for path in tmp_path.glob("m.db*")) == ["m.db"]


def test_a_run_is_called_by_its_choices_and_shows_what_came_of_it(context, tracking, client):
    ctx = context()
    named = replace(tracking, named_by=("model", "experiment", "quantizer"))
    choices = {"quantizer": "affine", "model": "net", "granularity": "per_tensor"}
    tracker = named.open(ctx.run_dir, ctx.console, choices, ["weight.bits=4"])
    tracker.describe("| top-1 | 98% |")
    tracker.dataset("digits", "content 1", {"samples": 360.0})
    tracker.finish()
    run = client().get_run(tracker.run_id)
    assert run.info.run_name == "net affine weight.bits=4"
    assert run.data.tags["mlflow.note.content"] == "| top-1 | 98% |"
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == "digits" and json.loads(given.dataset.profile) == {"samples": 360.0}
    assert given.dataset.digest == hashlib.sha256(b"content 1").hexdigest()[:8]
