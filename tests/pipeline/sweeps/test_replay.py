"""A replay says whether a recorded run gives the same figures, to the bit."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigError
from pipeline.sweeps.replay import check_as_many, differences
from pipeline.tracking.base import Record

NAMES = st.sampled_from(["integer/top1", "train/loss", "model/integer_bytes", "train/top1"])
NUMBERS = st.floats(allow_nan=True)


def test_a_replay_runs_the_recorded_configuration_and_compares(project):
    # `noise` draws from the stage's own seed: a replay has to set it
    code, _, _ = project.run("tracking=mlflow", "seed=3", "stages.make.value=5", "+stages.make.noise=true")
    assert code == 0
    ((original,),) = project.recorded("runs", "run_uuid")
    ran = project.fakes.ran()
    code, stdout, stderr = project.run("tracking=mlflow", f"replay={original}")
    assert (code, stderr) == (0, "")
    assert f"replay of {original}: 2 figures, all the same to the bit" in stdout
    assert [line for line in project.fakes.ran() if not line.startswith("check")] == [
        line for line in ran if not line.startswith("check")
    ]  # nothing was taken from the store
    (replayed,) = {run for (run,) in project.recorded("runs", "run_uuid")} - {original}
    tags = {
        key: value for run, key, value in project.recorded("tags", "run_uuid, key, value") if run == replayed
    }
    assert tags["replay_of"] == original
    assert tags["overrides"] == "tracking=mlflow seed=3 stages.make.value=5 +stages.make.noise=true"

    with sqlite3.connect(project.folder / "outputs" / "mlflow.db") as database:
        database.execute(
            "UPDATE latest_metrics SET value = value * (1 + 1e-15) "
            f"WHERE key = 'square/value' AND run_uuid = '{original}'"
        )
    code, stdout, stderr = project.run("tracking=mlflow", f"replay={original}")
    assert code == 1
    assert f"replay: 1 of 2 figures differ from run {original}; since then changed: nothing that is" in stderr
    assert "square/value" in stdout


def test_a_replay_runs_code_of_the_record_only_where_it_is_trusted(project):
    own = "+own={_target_: fractions.Fraction, numerator: 1}"
    assert project.run("tracking=mlflow", own)[0] == 0
    (run,) = project.runs()
    assert "user code: own: fractions.Fraction" in (run / "pipeline.log").read_text()
    ((original,),) = project.recorded("runs", "run_uuid")
    code, _, stderr = project.run("tracking=mlflow", f"replay={original}")
    assert code == 1
    assert "own._target_: 'fractions.Fraction' is code that a recorded configuration names" in stderr
    assert "trust=[fractions]" in stderr
    assert project.run("tracking=mlflow", f"replay={original}", "trust=[fractions]")[0] == 0


def test_a_replay_asks_the_environment_only_where_it_is_trusted(project):
    project.environment["SECRET"] = "5"
    assert project.run("tracking=mlflow", "stages.make.value='${oc.decode:${oc.env:SECRET}}'")[0] == 0
    ((original,),) = project.recorded("runs", "run_uuid")
    code, _, stderr = project.run("tracking=mlflow", f"replay={original}")
    assert code == 1 and "stages.make.value: " in stderr and "trust=[oc.decode]" in stderr
    trusted = "trust=[oc.env,oc.decode]"
    assert project.run("tracking=mlflow", f"replay={original}", trusted)[0] == 0


@pytest.mark.parametrize(
    ("recorded", "there", "remedy"),
    [
        (None, None, None),
        (None, 1, None),
        ("2", 2, None),
        ("2", None, "torchrun --nproc-per-node=2 -m pipeline"),
        ("2", 4, "torchrun --nproc-per-node=2 -m pipeline replay=abc"),
        (None, 4, "no torchrun"),
    ],
)
def test_a_replay_needs_as_many_processes_as_the_run_had(monkeypatch, recorded, there, remedy):
    for name, value in (("RANK", 0), ("WORLD_SIZE", there), ("MASTER_ADDR", "host")):
        monkeypatch.setenv(name, "" if there is None else str(value))
    tags = {} if recorded is None else {"ranks": recorded}
    record = Record(run_id="abc", finished=True, metrics={}, tags=tags)
    if remedy is None:
        check_as_many(record)
        return
    with pytest.raises(ConfigError) as refusal:
        check_as_many(record)
    assert f"computed by {recorded or 1} processes, and here are {there or 1}" in str(refusal.value)
    assert f"Remedy: {remedy}" in str(refusal.value)


def test_a_replay_of_a_run_with_an_infinite_figure_compares_the_finite_ones(project):
    (source,) = project.fakes.folder.glob("fake_stages_*.py")
    text = source.read_text().replace(
        'return {"square/value": self.value}',
        'return {"square/value": self.value, "square/db": float("inf")}',
    )
    source.write_text(text)
    assert project.run("tracking=mlflow")[0] == 0
    assert "square/db" not in {key for (key,) in project.recorded("latest_metrics", "key")}
    ((original,),) = project.recorded("runs", "run_uuid")
    code, stdout, stderr = project.run("tracking=mlflow", f"replay={original}")
    assert (code, stderr) == (0, "")
    assert "2 figures, all the same to the bit" in stdout


def test_a_replay_takes_the_recorded_number_of_threads_and_names_another(project):
    (source,) = project.fakes.folder.glob("fake_stages_*.py")
    text = source.read_text().replace("Square(inputs[Number].value ** 2", "Square(ctx.threads / 3")
    source.write_text(text)
    code, _, _ = project.run("tracking=mlflow", "threads=2")
    assert code == 0
    ((original,),) = project.recorded("runs", "run_uuid")
    code, stdout, _ = project.run("tracking=mlflow", f"replay={original}")
    assert code == 0 and "all the same to the bit" in stdout
    code, _, stderr = project.run("tracking=mlflow", f"replay={original}", "threads=1")
    assert code == 1 and "1 of 2 figures differ" in stderr and "since then changed: threads: 2 → 1" in stderr
    assert "may differ" not in stderr  # no stage says that it depends on them
    square = "    produces: ClassVar[type] = Square\n"
    source.write_text(text.replace(square, f"{square}    depends_on_threads: ClassVar[bool] = True\n"))
    assert "depends_on_threads" in source.read_text()
    assert project.run("tracking=mlflow", "threads=2", "seed=1")[0] == 0
    original = next(
        run
        for run, key, value in project.recorded("tags", "run_uuid, key, value")
        if (key, value) == ("threads_matter", "square")
    )
    code, stdout, stderr = project.run("tracking=mlflow", f"replay={original}", "threads=1")
    said = stdout + stderr
    assert code == 1 and "replay on 1 threads of a run on 2: square may differ in the last bits of" in said
    assert "threads: 2 → 1 (square may differ in the last bits; not with deterministic=true)" in stderr
    assert project.run("tracking=mlflow", "threads=2", "deterministic=true", "seed=2")[0] == 0
    tags = project.recorded("tags", "run_uuid, key, value")
    original = next(run for run, key, value in tags if (key, value) == ("seed", "2"))
    assert {(key, value) for run, key, value in tags if run == original} >= {
        ("threads", "1"),
        ("threads_matter", "none"),
    }
    code, stdout, _ = project.run("tracking=mlflow", f"replay={original}", "threads=3")
    assert code == 0 and "all the same to the bit" in stdout


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["tracking=none", "replay=abc"], "replay: needs the tracker that has the run"),
        (["tracking=mlflow", "replay=abc"], "run 'abc': not found in sqlite:///outputs/mlflow.db"),
    ],
)
def test_what_cannot_be_replayed_is_said(project, overrides, text):
    code, _, stderr = project.run(*overrides)
    assert code == 1 and text in stderr


@given(st.dictionaries(NAMES, NUMBERS))
def test_a_run_does_not_differ_from_itself(metrics):
    assert differences(metrics, dict(metrics)) == {}


@given(st.dictionaries(NAMES, NUMBERS), st.dictionaries(NAMES, NUMBERS))
def test_differences_are_what_was_recorded_and_is_not_the_same_now(before, after):
    found = differences(before, after)
    assert set(found) <= set(before)
    for name in before:
        same = name in after and (
            before[name] == after[name] or str(before[name]) == str(after[name]) == "nan"
        )
        assert (name in found) == (not same)


def test_timing_is_not_compared():
    timing = (
        "stage/train/seconds",
        "stage/train/cached",
        "integer/images_per_second",
        "integer/images_per_second_low",
        "speed/threads",
        "benchmark/latency_ms",
    )
    assert differences(dict.fromkeys(timing, 1.0), dict.fromkeys(timing, 2.0)) == {}
    assert differences({"integer/top1": 1.0}, {}) == {"integer/top1": (1.0, None)}
    assert differences({}, {"train/loss": 1.0}) == {}  # a training that was cached when the run was recorded


def test_an_infinity_of_an_earlier_version_does_not_make_a_replay_differ(project):
    assert project.run("tracking=mlflow")[0] == 0
    ((original,),) = project.recorded("runs", "run_uuid")
    with sqlite3.connect(project.folder / "outputs" / "mlflow.db") as database:
        database.execute(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) "
            f"VALUES ('square/sqnr_db', 1.7976931348623157e308, 0, 0, 0, '{original}')"
        )
    code, stdout, stderr = project.run("tracking=mlflow", f"replay={original}")
    assert (code, stderr) == (0, "") and "2 figures, all the same to the bit" in stdout
